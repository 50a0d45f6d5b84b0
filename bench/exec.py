"""What `kvmwhy exec` costs a VMM, and how soon after a failure its explanation stands there.

    sudo .venv/bin/python bench/exec.py [--exits 300000] [--rounds 5] [--failures 15]

The guest is tests/live/vmm.c's, which does nothing but MMIO exits: CPU time of the VMM for each, from the difference of
a long and a short run, so that no start counts. The same for a signal that a program sends to itself. Rounds alternate,
so that whatever else the host does hits all alike: the ratios count.
"""

from __future__ import annotations

import argparse
import os
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXEC = (sys.executable, "-m", "kvmwhy", "exec")
SIGNALS = """
#include <signal.h>
#include <stdlib.h>
static void handler(int number) { (void)number; }
int main(int argc, char **argv)
{
	signal(SIGUSR1, handler);
	for (long n = argc > 1 ? atol(argv[1]) : 0; n > 0; n--)
		raise(SIGUSR1);
	return 0;
}
"""


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--exits", type=int, default=300_000)
    arguments.add_argument("--signals", type=int, default=4_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--failures", type=int, default=15)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        vmm, signals, tracefs = place / "vmm", place / "signals", place / "tracefs"
        subprocess.run(["cc", "-O2", "-pthread", "-o", vmm, ROOT / "tests" / "live" / "vmm.c"], check=True)
        subprocess.run(["cc", "-O2", "-x", "c", "-o", signals, "-"], input=SIGNALS, text=True, check=True)
        tracefs.mkdir()
        subprocess.run(["mount", "-t", "tracefs", "nodev", tracefs], check=True)
        try:
            measure(vmm, signals, ("--tracefs", str(tracefs)), options)
        finally:
            time.sleep(1)
            subprocess.run(["umount", tracefs], check=True)


def measure(vmm: Path, signals: Path, traced: tuple[str, ...], options: argparse.Namespace) -> None:
    ways: dict[str, tuple[str, ...]] = {
        "alone": (),
        "exec --no-trace": (*EXEC, "--no-trace", "--"),
        "exec": (*EXEC, *traced, "--"),
    }
    costs: dict[str, list[float]] = {way: [] for way in ways}
    stops: dict[str, list[float]] = {way: [] for way in ways}
    starts: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, prefix in ways.items():
            costs[way].append(
                slope(prefix, options.exits, lambda n: (str(vmm), "mmio", "1", "1", str(n), "exit"), cpu=True)
            )
            stops[way].append(slope(prefix, options.signals, lambda n: (str(signals), str(n)), cpu=False))
            begin = time.monotonic()
            subprocess.run([*prefix, "true"], check=True)
            starts[way].append(time.monotonic() - begin)
    for title, unit, factor, values in (
        ("CPU time of an MMIO exit", "µs", 1e6, costs),
        ("time for a signal", "µs", 1e6, stops),
        ("`true`, from start to end", "ms", 1e3, starts),
    ):
        first = statistics.median(values["alone"])
        for way, seen in values.items():
            median = statistics.median(seen)
            print(f"{title}, {way}: {median * factor:.1f} {unit}, × {median / first:.3f}")
    cold = [delay((*EXEC, "--no-trace", "--"), vmm, 1)[0] for _ in range(options.failures)]
    pairs = [delay((*EXEC, "--no-trace", "--"), vmm, 2)[1] for _ in range(options.failures)]
    print(f"failure to explanation, cold: {statistics.median(cold) * 1000:.0f} ms (median of {len(cold)})")
    print(f"failure to explanation, warm: {statistics.median(pairs) * 1000:.0f} ms, × {ratio(pairs, cold):.2f}")


def ratio(values: list[float], of: list[float]) -> float:
    return statistics.median(values) / statistics.median(of)


def slope(prefix: tuple[str, ...], count: int, command: object, *, cpu: bool) -> float:
    """Seconds for each of ``count`` things, without what the start takes."""
    assert callable(command)
    short, long = (seconds([*prefix, *command(n)], cpu=cpu) for n in (count // 10, count))
    return (long - short) / (count - count // 10)


def seconds(command: list[str], *, cpu: bool) -> float:
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime if cpu else time.monotonic() - begin


def delay(prefix: tuple[str, ...], vmm: Path, failures: int) -> list[float]:
    """From each VMM's own line, printed after its guest's failure, to the end of the explanation."""
    guests = ("prot32", "triple")[:failures]
    script = "; ".join(f"{vmm} {guest} 1 1 1 exit" for guest in guests)
    process = subprocess.Popen([*prefix, "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    failed: list[float] = []
    explained: list[float] = []
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 16)
                now = time.monotonic()
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    failed += [now] * data.count(b"\n")
                elif "── kvmwhy".encode() in data:
                    explained.append(now)
    process.wait()
    assert len(failed) == len(explained) == failures, (failed, explained)
    return [after - before for before, after in zip(failed, explained, strict=True)]


if __name__ == "__main__":
    main()
