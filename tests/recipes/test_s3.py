"""An object store on loopback (moto's), read through s3fs: what is there, what is not, and what changes meanwhile."""

from __future__ import annotations

import io
import json
import logging
import socket
import tarfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fleet.logs import BLOCK, NOISE, made_log
from kvmwhy.cli.main import kvmwhy
from kvmwhy.fleet.checkpoint import Parts, Report
from kvmwhy.fleet.executor import Engine, here
from kvmwhy.fleet.files import open_input
from kvmwhy.fleet.input_splits import Piece, plan
from kvmwhy.fleet.store import read_rows
from kvmwhy.ingest.zstd import zstd
from needs import missing

ROW = NOISE + BLOCK
NAMES = ("with space.log", "with#hash.log", "with?mark.log", "with%20code.log", "[b]*.log", "a::b.log", "ü.log", "-")


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        missing("recipes", f"{name.partition('.')[0]} is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Its URL."""
    _import("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    made = _import("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    made.start()
    host, port = made.get_host_and_port()
    yield f"http://{host}:{port}"
    made.stop()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Nothing of whoever runs this, no word to any machine but this one, and few attempts."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "FSSPEC_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    store = _import("s3fs").S3FileSystem
    store.clear_instance_cache()
    yield monkeypatch
    store.clear_instance_cache()


class Bucket:
    """A new bucket, and a directory that holds the same."""

    def __init__(self, url: str, local: Path, name: str) -> None:
        self.client = _import("boto3").client("s3", endpoint_url=url)
        self.client.create_bucket(Bucket=name)
        self.name, self.local = name, local

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        path = self.local / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def url(self, key: str = "") -> str:
        return f"s3://{self.name}/{key}"


@pytest.fixture
def bucket(
    server: str, environment: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Bucket]:
    environment.setenv("AWS_ENDPOINT_URL", server)
    made = Bucket(server, tmp_path / "local", f"logs-{abs(hash(request.node.name))}")
    yield made
    made.client.close()


def scan(*paths: str) -> Result:
    return CliRunner().invoke(kvmwhy, ["scan", *paths])


def found(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def rows_of(paths: list[str], out: Path, engine: Engine = here) -> tuple[bytes, list[Report]]:
    """Scanned in pieces of 1 MiB: the table, and the reports."""
    parts = Parts(str(out), paths, size=1 << 20)
    reports = list(engine(parts.missing([])))
    parts.finish()
    return out.read_bytes(), reports


def fill(bucket: Bucket) -> int:
    """Logs of all kinds; the size of the big one."""
    data, _ = made_log(5, parts=32)
    bucket.put("lake/big.log", data)
    bucket.put("lake/packed.log.zst", zstd().compress(data))
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        info = tarfile.TarInfo("inside.log")
        info.size = len(ROW)
        archive.addfile(info, io.BytesIO(ROW))
    bucket.put("lake/deep/er/packed.tar.gz", sink.getvalue())
    bucket.put("lake/empty.log", b"")
    for n, name in enumerate(NAMES):
        bucket.put(f"lake/{name}", ROW * (n + 1))
    return len(data)


def test_a_bucket_gives_what_the_same_files_give(bucket: Bucket, tmp_path: Path) -> None:
    """A big log in ranges, archives, names with what means something to a shell or in a URL: all rows are those
    of the files, but for the path."""
    size = fill(bucket)
    assert sum(isinstance(p, Piece) and p.path.endswith("big.log") for p in plan([bucket.url()], size=1 << 20)) >= 3
    there, reports = rows_of([bucket.url("lake")], tmp_path / "there.jsonl")
    local, wanted = rows_of([str(bucket.local / "lake")], tmp_path / "local.jsonl")
    assert there.replace(bucket.url().encode(), f"{bucket.local}/".encode()) == local
    assert there.count(b"\n") > len(NAMES) + 10
    assert [r.unread for r in reports] == [r.unread for r in wanted]
    assert sum(r.read for r in reports) == sum(r.read for r in wanted) > size


def test_a_cluster_reads_the_bucket_too(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker opens the objects, not the client: the same table."""
    _import("distributed")
    from fleet import test_cluster
    from kvmwhy.fleet.cluster import cluster, connect

    fill(bucket)
    (tmp_path / "cluster").mkdir()
    monkeypatch.setattr(test_cluster, "WORKERS", 1)
    running = test_cluster.Cluster(tmp_path / "cluster")
    try:
        with connect(running.address) as client:
            client.wait_for_workers(1, timeout=60)
            there, _ = rows_of([bucket.url("lake")], tmp_path / "there.jsonl", cluster(client))
    finally:
        running.close()
    assert there == rows_of([bucket.url("lake")], tmp_path / "here.jsonl")[0]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (["a/1.log"], ["a/1.log"]),
        (["a"], ["a/1.log", "a/b/2.log", "a/b/3.txt"]),
        (["a/"], ["a/1.log", "a/b/2.log", "a/b/3.txt"]),
        ([""], ["a/1.log", "a/[1].log", "a/b/2.log", "a/b/3.txt", "ab/4.log"]),
        (["a*/*.log"], ["a/1.log", "ab/4.log"]),
        (["a/**/*.log"], ["a/1.log", "a/b/2.log"]),
        (["a?"], ["ab/4.log"]),
        (["a/[1].log"], ["a/[1].log"]),
        (["a", "a/1.log", "a/*"], ["a/1.log", "a/b/2.log", "a/b/3.txt"]),
    ],
)
def test_names_prefixes_and_patterns(bucket: Bucket, asked: list[str], wanted: list[str]) -> None:
    """A pattern's match may be a prefix; a name that is there is no pattern; what is named twice is read once."""
    for key in ("a/1.log", "a/b/2.log", "a/b/3.txt", "ab/4.log"):
        bucket.put(key, ROW)
    if any("[" in key for key in wanted):
        bucket.put("a/[1].log", ROW)
    result = scan(*map(bucket.url, asked))
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(row["path"] for row in found(result)) == [bucket.url(key) for key in wanted]


@pytest.mark.parametrize("cut", [False, True])
def test_what_goes_or_changes_meanwhile_is_named(bucket: Bucket, tmp_path: Path, *, cut: bool) -> None:
    """Between the plan and the reading: an object that is gone and one that is another now are named, each with the
    reason, and all others are read."""
    more = NOISE * (30_000 if cut else 1)
    for name in ("1", "2", "3", "4"):
        bucket.put(f"lake/{name}.log", ROW + more)
    parts = Parts(str(tmp_path / "out.jsonl"), [bucket.url("lake")], size=1 << 20)
    bucket.delete("lake/2.log")
    bucket.put("lake/3.log", BLOCK * 2 + more)
    reports = list(here(parts.missing([])))
    parts.finish()
    assert {row.path: row.count for row in read_rows(str(tmp_path / "out.jsonl"))} == {
        bucket.url("lake/1.log"): 1,
        bucket.url("lake/4.log"): 1,
    }
    unread = {(item.path, item.why) for report in reports for item in report.unread}
    assert {path for path, _ in unread} == {bucket.url("lake/2.log"), bucket.url("lake/3.log")}
    assert all("kvmwhy" not in why and "\n" not in why for _, why in unread)


def test_an_object_that_goes_while_it_is_planned_hides_no_other(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Big objects are opened to find where to cut them."""
    for name in ("1", "2", "3"):
        bucket.put(f"{name}.log", ROW + NOISE * 30_000)
    from kvmwhy.fleet import input_splits

    def opened(path: str) -> Any:
        if path.endswith("2.log"):
            bucket.delete("2.log")
        return open_input(path)

    monkeypatch.setattr(input_splits, "open_input", opened)
    names = [(type(item).__name__, item.path) for item in plan([bucket.url()], size=1 << 20)]
    assert {path for kind, path in names if kind == "Unread"} == {bucket.url("2.log")}
    assert {path for kind, path in names if kind == "Piece"} == {bucket.url("1.log"), bucket.url("3.log")}


def test_a_name_leads_to_no_other_store(bucket: Bucket, tmp_path: Path) -> None:
    """Whoever may write into a bucket chooses names; fsspec itself reads "::" in a URL as a way to another one."""
    secret = tmp_path / "secret.log"
    secret.write_bytes(BLOCK * 7)
    bucket.client.put_object(Bucket=bucket.name, Key=f"x::file://{secret}", Body=ROW)
    rows = found(scan(bucket.url()))
    assert [(row["path"], row["count"]) for row in rows] == [(bucket.url(f"x::file://{secret}"), 1)]
    assert scan(f"simplecache::file://{secret}").exit_code == 2


def _no_keys(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")


def _nobody_listens(environment: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")


def _nothing(_: pytest.MonkeyPatch) -> None:
    pass


@pytest.mark.parametrize(
    ("url", "change", "why"),
    [
        ("s3://{bucket}/none", _nothing, "no such object"),
        ("s3://{bucket}/none/*.log", _nothing, "no such object"),
        ("s3://no-such-bucket/none", _nothing, "the specified bucket does not exist"),
        ("s3://", _nothing, "cannot traverse all of s3"),
        ("s3://Not_A_Name!/x", _nothing, "invalid bucket name"),
        ("s3://{bucket}/x", _no_keys, "unable to locate credentials"),
        ("s3://{bucket}/x", _nobody_listens, "could not connect to the endpoint"),
        ("nonsense://x/y", _nothing, "protocol not known: nonsense"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    bucket: Bucket, environment: pytest.MonkeyPatch, url: str, change: Callable[[pytest.MonkeyPatch], None], why: str
) -> None:
    """With the URL and the reason, exit status 2, soon."""
    change(environment)
    result = scan(url := url.format(bucket=bucket.name))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"kvmwhy: {url}: ")
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
