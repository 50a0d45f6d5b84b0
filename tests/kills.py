"""Watches that are killed at random moments while guests fail, one after another: what that loses."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from math import inf
from pathlib import Path

from watching import Ran, Watching, failures, run_vmm

GUESTS = ("real16", "prot32", "long64", "jump", "triple")


class Kills:
    """``lost`` and ``doubled`` count failures; ``caught`` kills came while something waited to be told."""

    def __init__(self, program: Path, tracefs: Path, out: Path, seed: int) -> None:
        self.program, self.tracefs, self.out = program, tracefs, out
        self.choose = random.Random(seed)  # noqa: S311 -- moments, no secrets
        self.expected = Ran()
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
                    self.expected.update(one.result())
        watching = self._watch()
        watching.wait_for(set(self.expected))
        time.sleep(1.0)
        assert watching.stop() == 0, watching.said

    def _watch(self) -> Watching:
        return Watching(self.tracefs, self.out, "--quiet", "--max-size", "4M", "--keep", "9999")

    def _fail(self, pool: ThreadPoolExecutor) -> Future[Ran]:
        guest, vcpus = self.choose.choice(GUESTS), self.choose.randrange(1, 4)
        return pool.submit(run_vmm, self.program, guest, 1, vcpus, self.choose.randrange(1, 60))

    def missed(self) -> tuple[int, int]:
        """(lost, doubled), over all threads."""
        found: Counter[int] = failures(self.out)
        gone = {thread: there - found[thread] for thread, there in self.expected.items()}
        return sum(n for n in gone.values() if n > 0), -sum(n for n in gone.values() if n < 0)
