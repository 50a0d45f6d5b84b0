"""BigQuery's schema and Elasticsearch's bulk loading, as far as they can be held without the servers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fleet.logs import ROOT, fixtures
from kvmwhy import fleet
from kvmwhy.fleet.row import COLUMNS, Row
from kvmwhy.fleet.store import arrow_schema, write_rows
from needs import missing

RECIPES = ROOT / "contrib" / "fleet"
TOP = (1 << 64) - 1
TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
KINDS: dict[str, Any] = {
    "STRING": str,
    "INT64": int,
    "TIMESTAMP": str,
    "BOOL": bool,
    "FLOAT64": float,
}  # as JSON has them


@pytest.fixture(scope="module")
def jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of all fixtures, and two that are as wide and as poor as a row can be."""
    tmp = tmp_path_factory.mktemp("tables")
    (tmp / "lake").mkdir()
    for n, (data, _) in enumerate(fixtures()):
        (tmp / "lake" / f"{n}.log").write_bytes(data)
    rows = [
        Row(path="poor", offset=0),
        Row(path="wide\n", offset=(1 << 63) - 1, count=(1 << 63) - 1, time=TIME, last_time=TIME, rip=TOP, gva=0, cpl=3),
        *fleet.records([str(tmp / "lake")]),
    ]
    with (tmp / "rows.jsonl").open("wb") as sink:
        assert write_rows(sink, rows, ".jsonl") > 20
    return tmp / "rows.jsonl"


def told(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# -- BigQuery -------------------------------------------------------------------------------------


def test_bigquery_takes_the_schema_and_every_row(jsonl: Path) -> None:
    """Its own client reads the file, and knows each type; each value is of the JSON type that loading one of it takes.
    It has no unsigned integer of 64 bits: what may be one is text."""
    try:
        bigquery: Any = import_module("google.cloud.bigquery")
    except ImportError:
        missing("recipes", "google-cloud-bigquery is not installed")
    file = str(RECIPES / "bigquery.json")
    fields = [bigquery.SchemaField.from_api_repr(field) for field in json.loads(Path(file).read_text())]
    assert [field.name for field in fields] == list(COLUMNS)
    job = bigquery.LoadJobConfig(schema=fields, source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON)
    assert job.to_api_repr()["load"]["schema"]["fields"] == json.loads(Path(file).read_text())
    unknown = bigquery.StandardSqlTypeNames.TYPE_KIND_UNSPECIFIED
    schema = arrow_schema()
    for field in fields:
        assert field.to_standard_sql().type.type_kind != unknown
        assert (field.field_type == "TIMESTAMP") == str(schema.field(field.name).type).startswith("timestamp")
    for row in told(jsonl):
        for field in fields:
            value: Any = row.get(field.name)
            if value is None:
                assert field.mode == "NULLABLE", (field.name, row)
                continue
            assert type(value) is KINDS[field.field_type]
            if field.field_type == "INT64":
                assert -(1 << 63) <= value < 1 << 63
            if field.field_type == "TIMESTAMP":
                assert datetime.fromisoformat(value).utcoffset() == UTC.utcoffset(None)
        assert set(row) - {field.name for field in fields} == {"row"}  # what --ignore_unknown_values is for


# -- Elasticsearch --------------------------------------------------------------------------------


class Index(ThreadingHTTPServer):
    """Takes ``_bulk`` as an index with the recipe's mapping does: strictly, by ID."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        mapping = json.loads((RECIPES / "elasticsearch.json").read_text())["mappings"]
        assert mapping["dynamic"] == "strict"
        self.properties: dict[str, dict[str, Any]] = mapping["properties"]
        self.documents: dict[str, dict[str, Any]] = {}
        self.bodies: list[int] = []
        self.wrong: list[str] = []

    def take(self, body: bytes) -> None:
        assert body.endswith(b"\n")
        lines = [json.loads(line) for line in body.splitlines()]
        self.bodies.append(len(lines))
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            assert list(action) == ["index"]
            assert 0 < len(action["index"]["_id"]) <= 512
            self.documents[action["index"]["_id"]] = document
            self.wrong += [f"{name}: {value!r}" for name, value in document.items() if not self.fits(name, value)]

    def fits(self, name: str, value: Any) -> bool:
        match self.properties.get(name, {}).get("type"):
            case "keyword" | "text":
                return isinstance(value, str)
            case "boolean":
                return isinstance(value, bool)
            case "date_nanos":
                return 1970 <= datetime.fromisoformat(value).year < 2262
            case "double":
                return isinstance(value, float)
            case "unsigned_long" | "long" | "short" as kind:
                return (
                    type(value) is int
                    and 0 <= value < {"unsigned_long": 1 << 64, "long": 1 << 63, "short": 1 << 15}[kind]
                )
        return False


class _Handler(BaseHTTPRequestHandler):
    server: Index

    def do_POST(self) -> None:
        assert self.path.startswith("/kvm_failures/_bulk")
        self.server.take(self.rfile.read(int(self.headers["Content-Length"])))
        answer = b'{"errors":false}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def index() -> Iterator[Index]:
    server = Index()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_elasticsearch_gets_every_row_once(jsonl: Path, index: Index) -> None:
    """The command of the recipe as it stands there, but for the size of a body, twice: a server that knows the mapping
    gets bodies that it can take, and has each row once."""
    for name in ("curl", "split"):
        if shutil.which(name) is None:
            missing("recipes", f"no {name} here")
    script = RECIPES / "elasticsearch_bulk.py"
    text = script.read_text()
    command = text[text.index("python3 ") : text.index("\n\nA row")]
    command = command.replace("python3 elasticsearch_bulk.py failures.jsonl", '"$PYTHON" "$SCRIPT" "$ROWS"').replace(
        "20000", "20"
    )
    environment = {"PYTHON": sys.executable, "SCRIPT": str(script), "ROWS": str(jsonl), "PATH": "/usr/bin:/bin"}
    environment["URL"] = f"http://127.0.0.1:{index.server_port}"
    for _ in range(2):
        subprocess.run(["sh", "-c", command], env=environment, check=True, capture_output=True, timeout=60)
    assert index.wrong == []
    rows = told(jsonl)
    assert sorted(map(str, index.documents.values())) == sorted(map(str, rows))
    assert sum(index.bodies) == 2 * 2 * len(rows)
    assert max(index.bodies) == 20
