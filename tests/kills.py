"""Watches that are killed at random moments while guests fail, one after another: what that loses."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from math import inf
from pathlib import Path
from typing import NamedTuple

from watching import PATIENCE, Watching, records, run_vmm

GUESTS = ("real16", "prot32", "long64", "jump", "triple")
_SLACK = 0.5  # seconds


class Span(NamedTuple):
    """Failures of one thread, and when its VMM lived: the number may be another's before and after."""

    thread: int
    failures: int
    begin: float
    end: float


class Kills:
    """``lost`` and ``doubled`` count failures; ``caught`` kills came while something waited to be told."""

    def __init__(self, program: Path, tracefs: Path, out: Path, seed: int) -> None:
        self.program, self.tracefs, self.out = program, tracefs, out
        self.choose = random.Random(seed)  # noqa: S311 -- moments, no secrets
        self.expected: list[Span] = []
        self.kills = 0
        self.caught = 0

    def run(self, kills: int, *, seconds: float = inf) -> None:
        """So many, or as many as there is time for."""
        end = time.monotonic() + seconds
        spool = self.out.with_name(f".{self.out.name}.spool")
        with ThreadPoolExecutor(4) as pool:
            while self.kills < kills and time.monotonic() < end:
                self.kills += 1
                watching = self._watch()
                running = [self._fail(pool) for _ in range(self.choose.randrange(1, 4))]
                time.sleep(self.choose.random() ** 2 / 4)
                watching.kill()
                with suppress(OSError):
                    self.caught += spool.stat().st_size > 1 << 15
                for one in running:
                    self.expected += one.result()
        watching = self._watch()
        watching.wait_for({span.thread for span in self.expected})
        time.sleep(1.0)
        assert watching.stop(10 * PATIENCE) == 0, watching.said

    def _watch(self) -> Watching:
        return Watching(self.tracefs, self.out, "--quiet", "--max-size", "4M", "--keep", "9999")

    def _fail(self, pool: ThreadPoolExecutor) -> Future[list[Span]]:
        guest, vcpus = self.choose.choice(GUESTS), self.choose.randrange(1, 4)
        return pool.submit(self._run, guest, vcpus, self.choose.randrange(1, 60))

    def _run(self, guest: str, vcpus: int, runs: int) -> list[Span]:
        begin = time.time()
        ran = run_vmm(self.program, guest, 1, vcpus, runs)
        return [Span(thread, count, begin, time.time()) for thread, count in ran.items()]

    def missed(self) -> tuple[int, int]:
        """(lost, doubled), over all threads."""
        seen: dict[int, list[tuple[float, int]]] = {}
        for record in records(self.out):
            if record["kind"] != "other":
                source = record["source"]
                when = datetime.fromisoformat(source["time"]).timestamp()
                seen.setdefault(int(source["writer"].split()[1]), []).append((when, source["count"]))
        lost = doubled = 0
        for span in self.expected:
            found = sum(
                count for when, count in seen.get(span.thread, ()) if span.begin - _SLACK < when < span.end + _SLACK
            )
            lost, doubled = lost + max(0, span.failures - found), doubled + max(0, found - span.failures)
        return lost, doubled
