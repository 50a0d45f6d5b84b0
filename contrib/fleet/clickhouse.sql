-- The rows of `kvmwhy scan` in ClickHouse: tables, and what is asked of them first.
--
--   clickhouse-client --queries-file clickhouse.sql
--   clickhouse-client --query "INSERT INTO kvm_failures FORMAT Parquet" < failures.parquet
--   clickhouse-client --date_time_input_format best_effort --query "INSERT INTO kvm_failures_jsonl FORMAT JSONEachRow" \
--       < failures.jsonl
--
-- A file that is loaded twice is counted twice.

CREATE TABLE IF NOT EXISTS kvm_failures
(
    `path` String,
    `offset` UInt64,
    `count` UInt64 DEFAULT 1,
    `host` Nullable(String),
    `writer` Nullable(String),
    `time` Nullable(DateTime64(6, 'UTC')),
    `last_time` Nullable(DateTime64(6, 'UTC')),
    `kernel` LowCardinality(Nullable(String)),
    `microcode` LowCardinality(Nullable(String)),
    `vmm` LowCardinality(Nullable(String)),
    `qemu` LowCardinality(Nullable(String)),
    `vendor` LowCardinality(Nullable(String)),
    `kind` LowCardinality(String) DEFAULT 'other',
    `suberror` Nullable(UInt32),
    `hardware_error` Nullable(UInt64),
    `errno` LowCardinality(Nullable(String)),
    `exit_reason` Nullable(UInt64),
    `exit_name` LowCardinality(Nullable(String)),
    `mode` LowCardinality(Nullable(String)),
    `cpl` Nullable(UInt8),
    `rip` Nullable(UInt64),
    `instruction` Nullable(String),
    `bytes` Nullable(String),
    `access` LowCardinality(Nullable(String)),
    `gva` Nullable(UInt64),
    `gpa` Nullable(UInt64),
    `place` LowCardinality(Nullable(String)),
    `mechanism` LowCardinality(Nullable(String)),
    `origin` LowCardinality(Nullable(String)),
    `share` Nullable(Float64),
    `cause` LowCardinality(String) DEFAULT 'undecided',
    `family` LowCardinality(String) DEFAULT 'undecided',
    `confidence` LowCardinality(String) DEFAULT 'possible',
    `answer` String,
    `damaged` Bool,
    `signature` String,
    `why` LowCardinality(String),
    `signature_v2` Nullable(String),
    `why_v2` LowCardinality(Nullable(String)),
    `advice` LowCardinality(Nullable(String))
)
ENGINE = MergeTree
ORDER BY (signature, path, offset);

-- JSON lines have numbers of 64 bits as 0x text: they come in through a table that takes text, and keeps nothing.
CREATE TABLE IF NOT EXISTS kvm_failures_jsonl AS kvm_failures ENGINE = Null;

ALTER TABLE kvm_failures_jsonl
    MODIFY COLUMN hardware_error Nullable(String), MODIFY COLUMN exit_reason Nullable(String),
    MODIFY COLUMN rip Nullable(String), MODIFY COLUMN gva Nullable(String), MODIFY COLUMN gpa Nullable(String);

CREATE MATERIALIZED VIEW IF NOT EXISTS kvm_failures_from_jsonl TO kvm_failures AS
SELECT * REPLACE (
    reinterpretAsUInt64(reverse(unhex(leftPad(substring(hardware_error, 3), 16, '0')))) AS hardware_error,
    reinterpretAsUInt64(reverse(unhex(leftPad(substring(exit_reason, 3), 16, '0')))) AS exit_reason,
    reinterpretAsUInt64(reverse(unhex(leftPad(substring(rip, 3), 16, '0')))) AS rip,
    reinterpretAsUInt64(reverse(unhex(leftPad(substring(gva, 3), 16, '0')))) AS gva,
    reinterpretAsUInt64(reverse(unhex(leftPad(substring(gpa, 3), 16, '0')))) AS gpa)
FROM kvm_failures_jsonl;

-- What triage asks first: the groups, those of most hosts before others. A row without a host counts as its file.
SELECT
    signature,
    any(answer) AS answer,
    sum(count) AS failures,
    uniqExact(coalesce(host, path)) AS hosts,
    min(time) AS since,
    max(last_time) AS last_seen
FROM kvm_failures
GROUP BY signature
ORDER BY hosts DESC, failures DESC, signature
LIMIT 20;

-- What is new: groups that nobody had before the last seven days of the table, and on what they are.
SELECT
    signature,
    sum(count) AS failures,
    min(time) AS since,
    arraySort(groupUniqArray(20)(host)) AS hosts,
    arraySort(groupUniqArray(20)(kernel)) AS kernels,
    arraySort(groupUniqArray(20)(microcode)) AS microcodes,
    arraySort(groupUniqArray(5)('0x' || lower(hex(rip)))) AS rips
FROM kvm_failures
GROUP BY signature
HAVING since >= (SELECT max(last_time) FROM kvm_failures) - INTERVAL 7 DAY
ORDER BY failures DESC, signature
LIMIT 20;
