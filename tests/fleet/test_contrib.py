"""Recipes: what can be held without the programs that they are for; ``tests/recipes`` runs those that can be had."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from fleet.logs import BLOCK, ROOT, fixtures
from kvmwhy import fleet
from kvmwhy.fleet.row import COLUMNS, WIDE
from kvmwhy.fleet.store import arrow_schema

RECIPES = ROOT / "contrib" / "fleet"


def joined(lines: list[str], start: re.Pattern[str], goes_on: re.Pattern[str], *, ends: bool) -> list[str]:
    """Lines as a collector joins them: by what begins, and by what goes on, or ends, a failure."""
    out: list[str] = []
    inside = False
    for line in lines:
        if start.search(line):
            out.append(line)
            inside = True
        elif inside and (ends or goes_on.search(line)):
            out[-1] += "\n" + line
            inside = not (ends and goes_on.search(line))
        else:
            out.append(line)
            inside = False
    return out


def patterns() -> dict[str, tuple[re.Pattern[str], re.Pattern[str], bool]]:
    vector = tomllib.loads((RECIPES / "vector.toml").read_text())["sources"]["qemu"]["multiline"]
    assert vector["mode"] == "halt_with"
    bit = re.findall(r"regex: '/(.*)/'", (RECIPES / "fluent-bit.yaml").read_text())
    return {
        "vector": (re.compile(vector["start_pattern"]), re.compile(vector["condition_pattern"]), True),
        "fluent-bit": (re.compile(bit[0]), re.compile(bit[1]), False),
    }


@pytest.mark.parametrize("collector", ["vector", "fluent-bit"])
def test_a_failure_becomes_one_record(collector: str, tmp_path: Path) -> None:
    """By the recipe's patterns each QEMU log of the fixtures is one message, and a scan of the JSON lines finds it."""
    start, goes_on, ends = patterns()[collector]
    out = []
    for data, _ in fixtures():
        if not data.startswith(b"KVM internal error"):
            continue
        lines = ["all is well", *data.decode().splitlines(), "all is well again"]
        made = joined(lines, start, goes_on, ends=ends)
        assert len(made) == 3 + data.count(b"\nKVM internal error"), made[2][:80]
        record = {"time": "2026-02-03T04:05:06Z", "host": "node1", "message": made[1], "name": "guest"}
        out.append(json.dumps(record) + "\n")
    (tmp_path / "node1.jsonl").write_text("".join(out))
    rows = list(fleet.records([str(tmp_path / "node1.jsonl")]))
    assert sum(row.count for row in rows) == len(out) > 20
    assert {row.host for row in rows} == {"node1"}


def test_journald_as_json_is_read(tmp_path: Path) -> None:
    """What `journalctl --output=json` writes: a line for each line of QEMU."""
    lines = [
        json.dumps(
            {
                "__REALTIME_TIMESTAMP": str(1_770_091_506_000_000 + n),
                "_HOSTNAME": "pve1",
                "SYSLOG_IDENTIFIER": "QEMU",
                "_PID": "2043",
                "MESSAGE": line,
            }
        )
        for n, line in enumerate(BLOCK.decode().splitlines())
    ]
    (tmp_path / "pve1.jsonl").write_text("\n".join(lines * 2) + "\n")
    rows = list(fleet.records([str(tmp_path)]))
    assert sum(row.count for row in rows) == 2
    assert {(row.host, row.writer, row.time and row.time.year) for row in rows} == {("pve1", "QEMU[2043]", 2026)}


def test_the_shell_is_correct() -> None:
    """No syntax error in it."""
    subprocess.run(["sh", "-n", str(RECIPES / "journald.sh")], check=True)


def test_tables_elsewhere_have_the_columns_of_a_row() -> None:
    """ClickHouse, BigQuery and Elasticsearch: the same names, and every time a time."""
    sql = re.findall(r"^    `(\w+)` (.*?),?$", (RECIPES / "clickhouse.sql").read_text(), re.MULTILINE)
    query = json.loads((RECIPES / "bigquery.json").read_text())
    mapping = json.loads((RECIPES / "elasticsearch.json").read_text())["mappings"]["properties"]
    assert [name for name, _ in sql] == [field["name"] for field in query] == list(COLUMNS)
    assert list(mapping) == [*COLUMNS, "row"]
    for name, kind in sql:
        assert ("DateTime64" in kind) == str(arrow_schema().field(name).type).startswith("timestamp")
        assert ("DateTime64" in kind) == (mapping[name]["type"] == "date_nanos")
    for name in WIDE:  # 0x text where there is no such number, and no sum of them is wanted
        assert (dict(sql)[name], mapping[name]["type"]) == ("Nullable(UInt64)", "keyword")
        assert next(field["type"] for field in query if field["name"] == name) == "STRING"
