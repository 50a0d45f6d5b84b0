"""Some three hundred programs with and without `kvmwhy exec`: whether anything differs for who started them.

    tools/exec_same.py [--rounds N] [--vmm PROGRAM]

Each program of tests/exec_cases.py, in each of its channels, with each way to follow it. With --vmm, the program that
tests/live/vmm.c makes, also VMMs whose guests fail: their output and status must be the same, and the explanation must
stand behind what they wrote, at most once for each vCPU. Prints what differs, and how much of the start it costs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from exec_cases import CASES, Case, Channel, Look, look

EXEC = (sys.executable, "-m", "kvmwhy", "exec")
WAYS: tuple[tuple[str, ...], ...] = ((), ("--no-trace",), ("--no-log", "--no-trace"), ("--no-trace", "--json"))
GUESTS = ("real16", "prot32", "long64", "jump", "triple")
HEAD = "── kvmwhy: ".encode()


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--vmm", type=Path)
    arguments.add_argument("--tracefs")
    options = arguments.parse_args()
    runs, differ, delays = 0, 0, []
    with tempfile.TemporaryDirectory() as place:
        for _ in range(options.rounds):
            for case in CASES:
                for channel in case.channels:
                    alone, seconds = timed(case.command, case, channel, Path(place))
                    for way in WAYS:
                        more = ("--tracefs", options.tracefs) if options.tracefs and not way else ()
                        command = (*EXEC, *way, *more, "--", *case.command)
                        under, longer = timed(command, case, channel, Path(place))
                        runs, differ = runs + 1, differ + report(case.name, channel, way, alone, under)
                        delays.append(longer - seconds)
            if options.vmm:
                count, wrong = vmms(options.vmm, Path(place), options.tracefs)
                runs, differ = runs + count, differ + wrong
    print(
        f"{runs} runs under exec, {differ} differ; each took {statistics.median(delays) * 1000:.0f} ms longer (median)"
    )
    return 1 if differ else 0


def vmms(program: Path, place: Path, tracefs: str | None) -> tuple[int, int]:
    """VMMs that die at once, of a guest that fails."""
    runs = wrong = 0
    ways = (("--no-trace",), ("--tracefs", tracefs) if tracefs else ())
    for guest, vcpus, way in product(GUESTS, ("1", "2", "3"), ways):
        case = Case(guest, (str(program), guest, "1", vcpus, "1", "exit"))
        alone = look(case.command, case, "pipes", place)
        under = look((*EXEC, *way, "--", *case.command), case, "pipes", place)
        runs += 1
        told = under.err.count(HEAD)
        same = (under.status, without_numbers(under.out)) == (alone.status, without_numbers(alone.out))
        if not same or not 1 <= told <= int(vcpus):
            wrong += 1
            print(f"{guest}, {vcpus} vCPUs, {way}: {under.status} {under.out!r}, {told} explanations")
    return runs, wrong


def without_numbers(out: bytes) -> list[list[bytes]]:
    """The VMM prints the number of each thread first."""
    return sorted(line.split()[1:] for line in out.splitlines())


def timed(command: tuple[str, ...], case: Case, channel: Channel, place: Path) -> tuple[Look, float]:
    begin = time.monotonic()
    return look(command, case, channel, place), time.monotonic() - begin


def report(name: str, channel: str, way: tuple[str, ...], alone: Look, under: Look) -> int:
    if under == alone:
        return 0
    print(f"{name}, {channel}, {' '.join(way) or 'all'}: {alone} without, {under} with")
    return 1


if __name__ == "__main__":
    sys.exit(main())
