"""A `kvmwhy watch` under test, and what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

NAME = f"kvmwhy-test-{os.getpid()}"  # tests beside this one must not take over what it leaves behind
PATIENCE = 20.0  # seconds, for what takes a tenth of one


class Watching:
    """Started on construction, ready when that returns."""

    def __init__(self, tracefs: Path, out: Path, *options: str) -> None:
        self.out = out
        command = [sys.executable, "-m", "kvmwhy", "watch", "--tracefs", str(tracefs), "--out", str(out)]
        command += ["--name", NAME, *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_to_say("watching every vCPU")

    def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM, and its exit status."""
        self.process.terminate()
        self.process.wait(patience)
        self._reader.join()
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def wait_to_say(self, words: str) -> None:
        """Until a line with these words has come."""
        deadline = time.monotonic() + PATIENCE
        while not any(words in line for line in self.said):
            assert self._reader.is_alive(), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.said.append(line)

    def wait_for(self, threads: set[int]) -> None:
        """Until each of these threads is in a record."""
        deadline = time.monotonic() + PATIENCE
        while not threads <= set(failures(self.out)) and time.monotonic() < deadline:
            time.sleep(0.02)


def records(out: Path) -> list[dict[str, Any]]:
    """Every record, the oldest first; every line must be whole."""
    rotated = sorted(out.parent.glob(f"{out.name}.*"), key=lambda p: -int(p.suffix[1:]))
    parts = [part.read_bytes() for part in (*rotated, out) if part.exists()]
    return [json.loads(line) for part in parts for line in part[: part.rfind(b"\n") + 1].splitlines()]


def failures(out: Path, kind: str | None = None) -> Counter[int]:
    """How often each thread failed. On some kernels a failed emulation comes before a triple fault: a record more."""
    counted: Counter[int] = Counter()
    for record in records(out):
        if record["kind"] == kind or (kind is None and record["kind"] != "other"):
            counted[int(record["source"]["writer"].split()[1])] += record["source"]["count"]
    return counted


class Ran(Counter[int]):
    """What a VMM of vmm.c says of itself: failures by thread."""


def run_vmm(program: Path, guest: str, vms: int = 1, vcpus: int = 1, runs: int = 1) -> Ran:
    command = [str(program), guest, str(vms), str(vcpus), str(runs), "exit"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == vms * vcpus
    return Ran({row[0]: row[3] + row[4] for row in rows})


class Held:
    """A VMM of vmm.c that keeps its vCPUs after they failed, until it is closed."""

    def __init__(self, program: Path, guest: str, vms: int = 1, vcpus: int = 1, runs: int = 1) -> None:
        command = [str(program), guest, str(vms), str(vcpus), str(runs), "hold"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        rows = [[int(w) for w in self.process.stdout.readline().split()] for _ in range(vms * vcpus)]
        self.failures = Counter({row[0]: row[3] + row[4] for row in rows})
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.communicate("")
