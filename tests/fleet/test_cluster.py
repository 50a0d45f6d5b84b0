"""A real cluster on this machine: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.logs import BLOCK, NOISE, made_log

pytest.importorskip("distributed", reason="kvmwhy[cluster] is not installed")

from kvmwhy.fleet.checkpoint import Parts
from kvmwhy.fleet.cluster import cluster, connect, roll_up_on
from kvmwhy.fleet.executor import here
from kvmwhy.fleet.store import StoreError, read_rows
from kvmwhy.fleet.triage import triage

WORKERS = 3


class Cluster:
    """Processes that were started here, and are ended here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []
        file = directory / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        while not file.exists() or not file.stat().st_size:
            assert self.processes[0].poll() is None
            time.sleep(0.05)
        import json

        self.address = json.loads(file.read_text())["address"]
        for _ in range(WORKERS):
            self._start(
                "worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard",
                "--memory-limit", "0", "--local-directory", str(directory), "--death-timeout", "30",
            )  # fmt: skip

    def _start(self, *what: str) -> None:
        command = [sys.executable, "-m", "distributed.cli.dask_" + what[0], *what[1:]]
        with (self.directory / f"log{len(self.processes)}").open("wb") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def close(self) -> None:
        for process in self.processes:
            process.kill()  # they hold nothing that is to be kept
            process.wait()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster")
    yield made
    made.close()


def test_a_cluster_gives_what_one_process_gives_though_a_worker_is_killed(tmp_path: Path, running: Cluster) -> None:
    """Three workers, one of them killed in the middle: the same bytes as here, nothing lost, nothing twice; triage of
    the parts rolled up by workers is triage of the rows."""
    root = tmp_path / "lake"
    root.mkdir()
    data, _ = made_log(3)
    for n in range(3):
        (root / f"{n}.log").write_bytes(data)
    for n in range(20):
        (root / f"host{n}.log").write_bytes(NOISE * 9 + BLOCK)
    alone = Parts(str(tmp_path / "here.parquet"), [str(root)], size=1 << 20)
    wanted = {report.number: report for report in here(alone.missing([]))}
    alone.finish()
    with connect(running.address) as client:
        client.wait_for_workers(WORKERS, timeout=60)
        victim = next(iter(client.run(os.getpid).values()))
        parts = Parts(str(tmp_path / "cluster.parquet"), [str(root)], size=1 << 20)
        reports = {}
        for report in cluster(client)(parts.missing([])):
            assert report.number not in reports
            reports[report.number] = report
            if len(reports) == 2:
                os.kill(victim, signal.SIGKILL)
        parts.finish()
        assert len(client.nthreads()) == WORKERS - 1
        assert reports == wanted
        assert (tmp_path / "cluster.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
        files = [str(tmp_path / "cluster.parquet")]
        by = ("instruction", "cpl")
        rolled = list(roll_up_on(client, files, by, None))
    assert triage(files, by=by, tables=rolled) == triage(files, by=by)
    assert sum(row.count for row in read_rows(files[0])) == sum(report.failures for report in wanted.values())


def test_no_scheduler_is_one_sentence() -> None:
    """Nobody listens there."""
    with pytest.raises(StoreError, match="no scheduler answers at tcp:"):
        connect("tcp://127.0.0.1:9", timeout=0.5)
