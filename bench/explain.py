"""What an explanation costs: cold start against an empty Python, a stream of failures, peak memory.

    python bench/explain.py [--runs 15] [--failures 20000]

Times are CPU time, so that other programs of a shared machine count little. Cold runs alternate with `python -c pass`,
so that a drift of the machine's speed meets both; the ratio of the medians is the figure to quote. The stream has no
two equal failures: each has another RCX and another guest physical address.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "examples" / "avx-move-on-mmio.log"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--failures", type=int, default=20_000)
    arguments = parser.parse_args()
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} CPUs, {cpu_model()}")
    cold(arguments.runs)
    stream(arguments.failures)


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def children() -> float:
    """The CPU time of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cold(runs: int) -> None:
    """Whole processes, in turn: nothing, the explanation as text, as JSON."""
    program = str(Path(sys.executable).parent / "kvmwhy")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "kvmwhy explain": [program, "explain", str(LOG)],
        "kvmwhy explain --json": [program, "explain", "--json", str(LOG)],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            begin = children()
            subprocess.run(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT, check=True)
            if run:  # the first fills the caches
                times[name].append(children() - begin)
    base = statistics.median(times["python -c pass"])
    for name, values in times.items():
        median = statistics.median(values)
        low, high = min(values) * 1e3, max(values) * 1e3
        print(f"{name:24} {median * 1e3:7.1f} ms  ({low:.1f}–{high:.1f})  {median / base:5.1f} x")


def stream(count: int) -> None:
    """Distinct failures through one process: read, diagnose, JSON."""
    log = LOG.read_bytes()
    blocks = [
        log.replace(b"RCX=0000000000000000", b"RCX=%016x" % n).replace(
            b"00000000d0000000\nextra", b"%016x\nextra" % (n << 12)
        )
        for n in range(count)
    ]
    assert blocks[1].count(b"0000000000001000\nextra") == 1
    from kvmwhy.diagnosis import diagnose
    from kvmwhy.readers import read
    from kvmwhy.render.json import to_json

    for block in blocks[:100]:
        to_json(diagnose(read(block).failures[0]))
    stages = {"read": 0.0, "diagnose": 0.0, "json": 0.0}
    begin = time.process_time()
    for block in blocks:
        t0 = time.process_time()
        (failure,) = read(block).failures
        t1 = time.process_time()
        diagnosis = diagnose(failure)
        t2 = time.process_time()
        to_json(diagnosis)
        t3 = time.process_time()
        stages["read"] += t1 - t0
        stages["diagnose"] += t2 - t1
        stages["json"] += t3 - t2
    took = time.process_time() - begin
    parts = ", ".join(f"{name} {seconds / count * 1e6:.0f} µs" for name, seconds in stages.items())
    print(f"one process              {count / took:7.0f} distinct failures/s  ({parts})")

    with tempfile.NamedTemporaryFile(suffix=".log") as file:
        file.write(b"".join(blocks))
        file.flush()
        program = str(Path(sys.executable).parent / "kvmwhy")
        command = [program, "explain", "--json", "--limit", str(count), file.name]
        begin = children()
        subprocess.run(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT, check=True)
        took = children() - begin
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = file.tell() / 1e6
        print(f"kvmwhy explain, {size:.0f} MB    {count / took:7.0f} distinct failures/s")
        print(f"peak memory              {usage.ru_maxrss / 1024:7.0f} MiB for {count} distinct failures held at once")


if __name__ == "__main__":
    main()
