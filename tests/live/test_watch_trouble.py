"""What may happen to a host while it is watched: named, and survived."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.live import page_cache
from kvmwhy.live.page_cache import Recall
from kvmwhy.live.process import Vmm
from kvmwhy.live.rate_limit import Repeats
from kvmwhy.live.trace_history import NoHistory
from kvmwhy.live.watch import Watch
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.record import Host
from watching import PATIENCE, Ran, Watching, failures, records, run_vmm


def mine(out: Path, expected: Ran) -> Ran:
    """What was recorded of these threads: other VMs of the host may fail, too."""
    return Ran({thread: count for thread, count in failures(out).items() if thread in expected})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a few records."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    where = tmp_path / "disk"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.live
def test_a_full_disk(vmm: Path, tracefs: Path, small_disk: Path) -> None:
    """Said once; no record is torn; when there is room again, all that waited is written, and none is missing."""
    watching = Watching(tracefs, small_disk / "out", "--quiet")
    expected = Ran()
    for _ in range(24):
        expected.update(run_vmm(vmm, "long64"))
    watching.wait_to_say("records wait in memory until there is room")
    assert len(mine(watching.out, expected)) < len(expected)
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    watching.wait_for(set(expected))
    assert watching.stop() == 0, watching.said
    assert mine(watching.out, expected) == expected
    said = "".join(watching.said)
    assert said.count("records wait in memory until there is room") == 1
    assert "every record that waited is written" in said


@pytest.mark.live
@pytest.mark.usefixtures("tracefs")
def test_tracefs_is_unmounted_under_a_watch(vmm: Path, tmp_path: Path) -> None:
    """What it has open stays open: failures are still recorded, and the instances go away at the end."""
    where = tmp_path / "tracing"
    where.mkdir()
    subprocess.run(["mount", "-t", "tracefs", "nodev", where], check=True)
    try:
        watching = Watching(where, tmp_path / "out")
        before = {path.name for path in (where / "instances").iterdir()}
        subprocess.run(["umount", "-l", where], check=True)
        expected = run_vmm(vmm, "prot32", vcpus=2, runs=3)
        watching.wait_for(set(expected))
        assert watching.stop() == 0, watching.said
        assert mine(watching.out, expected) == expected
    finally:
        subprocess.run(["mount", "-t", "tracefs", "nodev", where], check=True)
        after = {path.name for path in (where / "instances").iterdir()}
        subprocess.run(["umount", where], check=True)
    ours = {name for name in before if name.split("-past")[0].endswith(str(watching.process.pid))}
    assert len(ours) == 2
    assert not ours & after


@pytest.mark.live
def test_a_vmm_that_becomes_another_program(vmm: Path, tracefs: Path, tmp_path: Path) -> None:
    """The same number, another address space: the failures of both are recorded, none of them with the other's page."""
    watching = Watching(tracefs, tmp_path / "out")
    expected = Ran()
    for guest in ("prot32", "long64"):
        command = [vmm, guest, "1", "2", "3", "again"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
        assert len(rows) == 4
        for row in rows:
            expected[row[0]] += row[3]
    watching.wait_for(set(expected))
    time.sleep(0.3)
    assert watching.stop() == 0
    assert mine(watching.out, expected) == expected
    mine_only = [r for r in records(watching.out) if int(r["source"]["writer"].split()[1]) in expected]
    assert {record["suberror"] for record in mine_only} == {1}


def test_a_thread_number_that_another_process_has_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is asked of the process that the thread is of, not of the one that once had such a thread."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        monkeypatch.setattr(page_cache, "vmm", lambda pid: Vmm(pid, f"vmm-{pid}", (), ()))
        recall = Recall(Host())
        first, _ = recall._vmm(os.getpid(), fresh=False)
        assert first.vmm.pid == os.getpid()
        second, _ = recall._vmm(other.pid, fresh=False)
        recall._process[os.getpid()] = other.pid  # what was known of this number before it became ours
        again, _ = recall._vmm(os.getpid(), fresh=False)
        assert (second.vmm.pid, again.vmm.pid) == (other.pid, os.getpid())
        recall.close()
        other.communicate(b"\n")


class Plain:
    """Events whose raw form is their fields."""

    def decode(self, raw: dict[str, int | str], /) -> dict[str, int | str]:
        return dict(raw)

    def number(self, raw: dict[str, int | str], name: str, /) -> int | None:
        value = raw.get(name)
        return value if isinstance(value, int) else None


def bare() -> Watch:
    watch = Watch.__new__(Watch)
    watch._recall, watch._repeats, watch._open = Recall(Host(kernel="6.18")), Repeats(), {}
    watch._flight = NoHistory()
    watch._spool, watch._left, watch._taken_up, watch._untold = None, None, False, 0
    return watch


def shutdown(thread: int, at: float) -> TraceEvent:
    fields: dict[str, Any] = {"reason": 8, "errno": 0}
    return TraceEvent("kvm_userspace_exit", thread, fields, Plain(), time=at)


def test_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are in the order in which KVM failed, whatever the time of day says, and none waits for that."""
    watch, now = bare(), time.monotonic()
    real = time.time
    found = watch._tell(1 << 30, [shutdown(1 << 30, now - 2)], now)
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    found += watch._tell((1 << 30) + 1, [shutdown((1 << 30) + 1, now - 1)], now)
    assert [seen.when for seen in found] == [now - 2, now - 1]
    first, second = (seen.failure.source.time or "" for seen in found)
    assert second < first


def test_a_long_time_leaves_nothing_behind() -> None:
    """Tens of thousands of failures of as many VMMs, a second apart: memory stays what it was half-way."""
    watch, start = bare(), time.monotonic()
    threads = range(1 << 30, (1 << 30) + 16_000)
    tracemalloc.start()
    middle = 0
    for n, thread in enumerate(threads):
        now = start + n
        watch._tell(thread, [shutdown(thread, now)], now)
        watch._recall.clear()
        watch._repeats.due(now)
        if n == len(threads) // 2:
            middle = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - middle
    tracemalloc.stop()
    assert grown < 1 << 20
