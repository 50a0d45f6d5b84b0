-- The rows of `kvmwhy scan` in ClickHouse.
--
--   clickhouse-client --queries-file clickhouse.sql
--   clickhouse-client --query "INSERT INTO kvm_failures FORMAT Parquet" < failures.parquet

CREATE TABLE IF NOT EXISTS kvm_failures
(
    `path` String,
    `offset` UInt64,
    `count` UInt64,
    `host` Nullable(String),
    `writer` Nullable(String),
    `time` Nullable(DateTime64(6, 'UTC')),
    `last_time` Nullable(DateTime64(6, 'UTC')),
    `kernel` LowCardinality(Nullable(String)),
    `microcode` LowCardinality(Nullable(String)),
    `vmm` LowCardinality(Nullable(String)),
    `qemu` LowCardinality(Nullable(String)),
    `vendor` LowCardinality(Nullable(String)),
    `kind` LowCardinality(Nullable(String)),
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
    `cause` LowCardinality(Nullable(String)),
    `family` LowCardinality(Nullable(String)),
    `confidence` LowCardinality(Nullable(String)),
    `answer` Nullable(String),
    `damaged` Bool,
    `signature` String,
    `why` LowCardinality(Nullable(String))
)
ENGINE = MergeTree
ORDER BY (signature, path, offset);

-- What triage asks first.
SELECT signature, sum(count) AS failures, uniqExact(host) AS hosts, min(time), max(last_time)
FROM kvm_failures GROUP BY signature ORDER BY hosts DESC, failures DESC LIMIT 20;
