"""Runs that are stopped, workers that die, inputs that cannot be read: nothing is lost or counted twice."""

# ruff: noqa: S311 -- the same each time is what is wanted
from __future__ import annotations

import gzip
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from fleet.logs import BLOCK, NOISE, distinct, made_log, noise
from kvmwhy import fleet
from kvmwhy.fleet.checkpoint import Parts, Report, Task, do_here
from kvmwhy.fleet.executor import here, processes
from kvmwhy.fleet.input_splits import Piece, Unread, batches, plan
from kvmwhy.fleet.row import Row
from kvmwhy.fleet.store import StoreError, read_rows
from kvmwhy.pipeline import Record, records


def failures(rows: Iterable[Row]) -> int:
    return sum(row.count for row in rows)


def finished(out: Path, paths: list[str], size: int = 1 << 20) -> list[Row]:
    parts = Parts(str(out), paths, size=size)
    assert all(not report.unread for report in here(parts.missing(parts.done())))
    parts.finish()
    return list(read_rows(str(out)))


@pytest.fixture
def lake(tmp_path: Path) -> tuple[list[str], int]:
    """A directory with a big file, small ones, a compressed one and a tar; and how many failures it has."""
    root = tmp_path / "lake"
    root.mkdir()
    data, wanted = made_log(3, parts=24)
    (root / "big.log").write_bytes(data)
    for n in range(30):
        (root / f"host{n}.log").write_bytes(NOISE * 20 + distinct(n) + NOISE)
    (root / "old.log.gz").write_bytes(gzip.compress(NOISE * 8000 + BLOCK * 7))
    with tarfile.open(root / "all.tar", "w") as archive:
        info = tarfile.TarInfo("in/side.log")
        info.size = len(BLOCK) * 5
        archive.addfile(info, io.BytesIO(BLOCK * 5))
    return [str(root)], sum(wanted.values()) + 30 + 7 + 5


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_a_run_that_was_killed_goes_on(tmp_path: Path, lake: tuple[list[str], int], suffix: str) -> None:
    """Whatever batch it was at, and with half a part on the disk, the result is that of one run, byte for byte."""
    paths, wanted = lake
    once, again = tmp_path / f"once.{suffix}", tmp_path / f"again.{suffix}"
    assert failures(finished(once, paths)) == wanted
    parts = Parts(str(again), paths, size=1 << 20)
    tasks = parts.missing(parts.done())
    assert len(tasks) > 4
    for task in tasks[::2]:
        do_here(task)
    Path(tasks[1].part).write_bytes(b"torn")  # its report was never written
    Path(f"{tasks[3].part}.1.tmp").write_bytes(b"torn")
    resumed = Parts(str(again), paths, size=1 << 20)
    assert resumed.resumed
    assert {task.number for task in resumed.missing(resumed.done())} == {task.number for task in tasks[1::2]}
    finished(again, paths)
    assert again.read_bytes() == once.read_bytes()
    assert not Path(parts.directory).exists()


def test_kill_and_run_again(tmp_path: Path, lake: tuple[list[str], int]) -> None:
    """SIGKILL in the middle of the command; the same command again has every failure once."""
    paths, wanted = lake
    out = tmp_path / "out.parquet"
    code = (
        "import sys; from kvmwhy.cli.scan import ScanOptions, run\n"
        "sys.exit(run(ScanOptions((sys.argv[1],), sys.argv[2], 1, None, False, 1 << 20)))"
    )
    command = [sys.executable, "-c", code, *paths, str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as first:
        while first.poll() is None and not list(tmp_path.glob("out.parquet.parts/*.done")):
            time.sleep(0.01)
        first.kill()
    assert not out.exists()
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert "going on" in second.stderr
    assert failures(read_rows(str(out))) == wanted


def test_a_log_that_grew_meanwhile_changes_nothing(tmp_path: Path) -> None:
    """A run goes by the plan that it was begun with."""
    log, out = tmp_path / "a.log", tmp_path / "out.jsonl"
    log.write_bytes(NOISE * 30_000 + BLOCK + NOISE * 30_000 + BLOCK)
    parts = Parts(str(out), [str(log)], size=1 << 20)
    first, *rest = parts.missing([])
    assert rest
    do_here(first)
    with log.open("ab") as stream:
        stream.write(BLOCK * 50)
    assert failures(finished(out, [str(log)])) == 2


def test_other_inputs_are_another_run(tmp_path: Path) -> None:
    """Parts of other inputs are not taken for these, nor with --fresh."""
    (tmp_path / "a.log").write_bytes(BLOCK)
    (tmp_path / "b.log").write_bytes(BLOCK * 2)
    out = tmp_path / "out.jsonl"
    (task,) = Parts(str(out), [str(tmp_path / "a.log")]).missing([])
    do_here(task)
    assert not Parts(str(out), [str(tmp_path / "a.log")], fresh=True).done()
    assert failures(finished(out, [str(tmp_path / "b.log")])) == 2


def test_processes_give_the_same(tmp_path: Path, lake: tuple[list[str], int]) -> None:
    """Two processes: the same bytes."""
    paths, _ = lake
    finished(tmp_path / "here.parquet", paths)
    parts = Parts(str(tmp_path / "two.parquet"), paths, size=1 << 20)
    reports = list(processes(2)(parts.missing([])))
    assert sorted(report.number for report in reports) == list(range(len(parts.tasks)))
    parts.finish()
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_a_worker_that_dies_is_replaced(tmp_path: Path, lake: tuple[list[str], int]) -> None:
    """SIGKILL to a worker process: what it had to do is done again, and only once counted."""
    paths, wanted = lake
    parts = Parts(str(tmp_path / "out.jsonl"), paths, size=1 << 20)
    reports: list[Report] = []
    before = children(os.getpid())
    for report in processes(2)(parts.missing([])):
        reports.append(report)
        if len(reports) == 2:
            new = set(children(os.getpid())).difference(before)
            workers = [pid for pid in new if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
            assert len(workers) == 2
            os.kill(workers[0], signal.SIGKILL)
    assert sorted(report.number for report in reports) == list(range(len(parts.tasks)))
    parts.finish()
    assert failures(read_rows(str(tmp_path / "out.jsonl"))) == wanted


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone, cut, broken, a loop of links, no file at all: the rest is read, and each has its sentence."""
    root = tmp_path / "lake"
    root.mkdir()
    (root / "good.log").write_bytes(BLOCK)
    (root / "gone.log").write_bytes(BLOCK)
    (root / "cut.log").write_bytes(noise(random.Random(1), 3 << 20))
    (root / "broken.gz").write_bytes(gzip.compress(BLOCK * 9 + os.urandom(50_000))[:-9000])
    (root / "circle").symlink_to(root)
    (root / "nowhere.log").symlink_to(root / "missing")
    (root / "dark.log").write_bytes(BLOCK)
    pieces = list(plan([str(root), str(tmp_path / "none*"), "/dev/null"], size=1 << 20))
    unread = [piece for piece in pieces if isinstance(piece, Unread)]
    (root / "gone.log").unlink()
    os.truncate(root / "cut.log", 2 << 20)
    out = str(tmp_path / "part.jsonl")
    kept = tuple(piece for piece in pieces if isinstance(piece, Piece) and "dark" not in piece.path)
    report = do_here(Task(0, kept, out, ".jsonl"))
    told = {Path(item.path).name: item.why for item in (*unread, *report.unread)}
    assert told["gone.log"] == "no such file or directory"
    assert told["cut.log"] == "it became shorter while it was read; what there was is read"
    assert "ends early" in told["broken.gz"] or "broken" in told["broken.gz"]
    assert told["none*"] == "nothing matches it"
    assert told["null"] == "it is no file and no directory"
    assert told["nowhere.log"] == "no such file or directory"
    assert failures(read_rows(out)) >= 1 + 9

    def fails(*_: object, **__: object) -> Iterator[bytes]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", fails)
    complaints: list[Unread] = []
    list(fleet.scan([str(root / "dark.log")], unread=complaints))
    assert [item.why for item in complaints] == ["permission denied"]


def test_a_part_that_a_crash_left_empty_is_done_again(tmp_path: Path, lake: tuple[list[str], int]) -> None:
    """A report whose part is not what it was made of counts for nothing."""
    paths, wanted = lake
    parts = Parts(str(tmp_path / "out.parquet"), paths, size=1 << 20)
    reports = list(here(parts.missing([])))
    assert len(parts.done()) == len(reports) > 2
    os.truncate(parts.tasks[1].part, 0)
    os.unlink(parts.tasks[2].part)
    assert [task.number for task in parts.missing(parts.done())] == [1, 2]
    assert failures(finished(tmp_path / "out.parquet", paths)) == wanted


def test_processes_that_are_forked_give_the_same(tmp_path: Path, lake: tuple[list[str], int]) -> None:
    """The command line, where no thread and no pyarrow stands in the way of a copy: the same bytes, and progress."""
    paths, wanted = lake
    begin = (
        "import sys; from kvmwhy.fleet.checkpoint import Parts; from kvmwhy.fleet.executor import _context, processes\n"
    )
    body = (
        "parts = Parts(sys.argv[1], sys.argv[2:], size=1 << 20)\n"
        "told = []\n"
        "reports = list(processes(2, tell=told.append)(parts.missing([])))\n"
        "print(_context().get_start_method(), sum(r.failures for r in reports), sum(told) > 0, parts.finish() > 0)\n"
    )
    command = [sys.executable, "-c", begin + body, str(tmp_path / "forked.parquet"), *paths]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert said.split() == ["fork" if sys.platform == "linux" else "spawn", str(wanted), "True", "True"]
    finished(tmp_path / "alone.parquet", paths)
    assert (tmp_path / "forked.parquet").read_bytes() == (tmp_path / "alone.parquet").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")
def test_no_process_outlives_a_run_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL of the one that was started: its workers end as well, in a moment, and what they did is gone on with."""
    data, wanted = made_log(3)
    (tmp_path / "lake").mkdir()
    for n in range(4):
        (tmp_path / "lake" / f"{n}.log").write_bytes(data)
    out = tmp_path / "out.jsonl"
    body = (
        "import sys, time; from kvmwhy.fleet import executor; from kvmwhy.fleet.checkpoint import Parts\n"
        "parts = Parts(sys.argv[1], sys.argv[2:], size=1 << 20)\n"
        "for report in executor.processes(3)(parts.missing([])): print(report.number, flush=True); time.sleep(0.2)\n"
    )
    command = [sys.executable, "-c", body, str(out), str(tmp_path / "lake")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        workers = children(running.pid)
        running.kill()
    assert len(workers) == 3
    until = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(is_alive, workers))
    assert failures(finished(out, [str(tmp_path / "lake")])) == 4 * sum(wanted.values())


def stat(pid: int) -> list[str]:
    """Of a process that there is: its state, its parent, and so on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z", "0"]


def children(pid: int) -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and stat(int(name))[1] == str(pid)]


def is_alive(pid: int) -> bool:
    return stat(pid)[0] != "Z"


def test_a_task_that_kills_its_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One input on which every process dies costs that input only."""
    from kvmwhy.fleet import executor

    (tmp_path / "log").write_bytes(BLOCK)
    parts = Parts(str(tmp_path / "out.jsonl"), [str(tmp_path / "log")])
    monkeypatch.setattr(executor, "_do", _dies)
    (report,) = processes(1)(parts.missing([]))
    assert [item.why for item in report.unread] == ["the process that read it died"]
    assert parts.finish() == 0


def _dies(_: Task) -> Report:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_fault_of_kvmwhy_costs_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that raises is named with its input, and the rest is read."""
    for name in "abc":
        (tmp_path / f"{name}.log").write_bytes(distinct(ord(name)))

    def fails(chunks: Iterable[bytes], *_: object, **__: object) -> Iterator[Record]:
        data = b"".join(chunks)
        if distinct(ord("b")) in data:
            raise ZeroDivisionError("oh")
        return records((data,))

    monkeypatch.setattr("kvmwhy.fleet.extract.records_of", fails)
    parts = Parts(str(tmp_path / "out.jsonl"), [str(tmp_path / "*.log")])
    (report,) = here(parts.missing([]))
    assert [(Path(item.path).name, "ZeroDivisionError: oh" in item.why) for item in report.unread] == [("b.log", True)]
    assert report.failures == 2


def test_many_small_files_are_few_batches(tmp_path: Path) -> None:
    """A batch has files up to its size, and every file once."""
    for n in range(300):
        (tmp_path / f"{n:03}.log").write_bytes(b"x" * 100)
    pieces = [piece for piece in plan([str(tmp_path), str(tmp_path / "1*.log")]) if isinstance(piece, Piece)]
    made = list(batches(pieces, size=10_000))
    assert [len(batch) for batch in made] == [100, 100, 100]
    assert [piece for batch in made for piece in batch] == pieces


def test_the_library_door(tmp_path: Path) -> None:
    """Failures, rows, an Arrow table and a DuckDB view of the same log agree."""
    (tmp_path / "a.log").write_bytes(NOISE * 15_000 + BLOCK * 3 + NOISE * 2000)
    paths = [str(tmp_path / "a.log")]
    found = list(fleet.scan(paths))
    assert {(failure.suberror, failure.source.path) for failure in found} == {(1, paths[0])}
    assert sum(failure.source.count for failure in found) == 3
    table = fleet.table(fleet.records(paths))
    assert table.column("count").to_pylist() == [3]
    out = tmp_path / "a.jsonl"
    finished(out, paths)
    assert fleet.view([str(out)]).sql("SELECT count, suberror FROM rows").fetchall() == [(3, 1)]


def test_an_object_store_is_read_by_its_url(tmp_path: Path) -> None:
    """The same rows by fsspec as from the files; what is not there is named."""
    pytest.importorskip("fsspec", reason="kvmwhy[cluster] is not installed")
    data, wanted = made_log(3)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "big.log").write_bytes(data)
    (tmp_path / "lake" / "old.gz").write_bytes(gzip.compress(BLOCK * 3))
    rows = finished(tmp_path / "out.jsonl", [f"file://{tmp_path}/lake"])
    assert failures(rows) == sum(wanted.values()) + 3
    here_ = finished(tmp_path / "here.jsonl", [f"{tmp_path}/lake"])
    assert [msgspec.structs.replace(r, path=r.path.removeprefix("file://")) for r in rows] == here_
    assert failures(fleet.records([f"file://{tmp_path}/lake/*.gz"])) == 3
    unread: list[Unread] = []
    assert not list(fleet.records([f"file://{tmp_path}/none", "nothing://x"], unread=unread))
    assert [item.path for item in unread] == [f"file://{tmp_path}/none", "nothing://x"]


@pytest.mark.parametrize("name", ["out.csv", "out"])
def test_other_outputs_are_refused(tmp_path: Path, name: str) -> None:
    """Only what triage reads is written."""
    with pytest.raises(StoreError, match=r"must end in \.parquet or \.jsonl"):
        Parts(str(tmp_path / name), [str(tmp_path)])
