"""clickhouse.sql in ClickHouse's own engine, in process (chdb)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fleet.logs import ROOT, fixtures
from kvmwhy import fleet
from kvmwhy.fleet.row import COLUMNS, Row
from kvmwhy.fleet.store import write_rows
from needs import missing

RECIPE = re.sub(r"^--.*$", "", (ROOT / "contrib" / "fleet" / "clickhouse.sql").read_text(), flags=re.MULTILINE)
SQL = [statement.strip() for statement in RECIPE.split(";") if statement.strip()]
QUERIES = [statement for statement in SQL if statement.startswith("SELECT")]
TOP = (1 << 64) - 1
TIMES = "date_time_input_format = 'best_effort'"  # as the recipe's command has it
TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
ROWS = [
    Row(path="a", offset=0),
    Row(
        path='b #?"\\\n',
        offset=TOP,
        count=1 << 63,
        host="é\x1b",
        time=TIME,
        last_time=TIME,
        rip=TOP,
        gva=0,
        signature="s",
    ),
    Row(path="c", offset=1, exit_reason=0x80000021, hardware_error=0x80000021, gva=0xFFFF_8880_0000_1000, gpa=1 << 51),
    Row(path="d", offset=2, suberror=(1 << 32) - 1, cpl=3, damaged=True, cause="x", kind="internal-error", answer="An"),
]


class ClickHouse:
    def __init__(self, session: Any) -> None:
        self.session = session
        for statement in SQL[: -len(QUERIES)]:
            session.query(statement)

    def load(self, rows: list[Row], suffix: str, tmp: Path) -> None:
        path = tmp / f"rows{suffix}"
        with path.open("wb") as sink:
            write_rows(sink, rows, suffix)
        into = {".jsonl": f"kvm_failures_jsonl FROM INFILE '{path}' SETTINGS {TIMES} FORMAT JSONEachRow"}
        self.session.query("TRUNCATE TABLE kvm_failures")
        self.session.query("INSERT INTO " + into.get(suffix, f"kvm_failures FROM INFILE '{path}' FORMAT Parquet"))

    def ask(self, query: str) -> list[dict[str, Any]]:
        said = str(self.session.query(f"{query} SETTINGS output_format_json_quote_64bit_integers = 0", "JSONEachRow"))
        return [json.loads(line) for line in said.splitlines()]


@pytest.fixture(scope="module")
def engine() -> Iterator[ClickHouse]:
    try:
        session = import_module("chdb.session").Session()
    except ImportError:
        missing("recipes", "chdb is not installed")
    yield ClickHouse(session)
    session.close()


def test_the_recipe_can_be_run_again(engine: ClickHouse) -> None:
    """On the tables that it made before, all of it."""
    assert len(QUERIES) == 2
    for statement in SQL:
        engine.session.query(statement)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_value_arrives_as_it_is(engine: ClickHouse, tmp_path: Path, suffix: str) -> None:
    """Numbers of 64 bits, microseconds, what is unknown, and what is as usual: from JSON lines and from Parquet."""
    engine.load(ROWS, suffix, tmp_path)
    told = engine.ask("SELECT * FROM kvm_failures ORDER BY path")
    assert len(told) == len(ROWS)
    for row, found in zip(ROWS, told, strict=True):
        wanted = {name: getattr(row, name) for name in COLUMNS}
        for name in ("time", "last_time"):
            wanted[name] = wanted[name] and wanted[name].strftime("%Y-%m-%d %H:%M:%S.%f")
        assert found == wanted


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_a_scan_finds_arrives(engine: ClickHouse, tmp_path: Path, suffix: str) -> None:
    """All failures of the fixtures: as many, of the same signatures."""
    (tmp_path / "lake").mkdir()
    for n, (data, _) in enumerate(fixtures()):
        (tmp_path / "lake" / f"{n}.log").write_bytes(data)
    rows = list(fleet.records([str(tmp_path / "lake")]))
    engine.load(rows, suffix, tmp_path)
    told = engine.ask("SELECT signature, sum(count) AS n, max(rip) AS rip FROM kvm_failures GROUP BY signature")
    wanted: dict[str, tuple[int, int | None]] = {}
    for row in rows:
        count, rip = wanted.get(row.signature, (0, None))
        wanted[row.signature] = (count + row.count, row.rip if rip is None else max(rip, row.rip or 0))
    assert {group["signature"]: (group["n"], group["rip"]) for group in told} == wanted
    assert len(wanted) > 20


def test_the_queries_say_which_groups_there_are_and_which_are_new(engine: ClickHouse, tmp_path: Path) -> None:
    """The most hosts first, a row without a host being its file; new is what began in the table's last seven days."""
    now, old = TIME, TIME - timedelta(days=30)
    engine.load(
        [
            Row(path="x", offset=0, host="h1", time=old, last_time=old, signature="old", answer="A", count=100),
            Row(path="x", offset=9, host="h1", time=now, last_time=now, signature="old", answer="A"),
            Row(path="y", offset=0, host="h2", time=now, last_time=now, signature="new", kernel="6.1", rip=TOP),
            Row(path="z", offset=0, time=now, last_time=now, signature="new", microcode="0x1"),
        ],
        ".jsonl",
        tmp_path,
    )
    groups, new = (engine.ask(query) for query in QUERIES)
    assert [(g["signature"], g["failures"], g["hosts"]) for g in groups] == [("new", 2, 2), ("old", 101, 1)]
    assert groups[1]["since"].startswith("2025-12-03")
    assert groups[1]["last_seen"].startswith("2026-01-02 03:04:05.678901")
    assert [(g["signature"], g["hosts"], g["kernels"], g["microcodes"], g["rips"]) for g in new] == [
        ("new", ["h2"], ["6.1"], ["0x1"], ["0xffffffffffffffff"])
    ]
