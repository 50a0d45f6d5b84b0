"""What asking the emulator costs: python bench/probe.py.

Shown are probes per second, by kvmwhy and by a C program that does the same ioctls on the same guests (lab/sweep.c, on
this host's KVM), in turns; what a sweep of this host takes; and what loading the atlas and looking things up costs.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvmwhy.emulator import atlas as module
from kvmwhy.emulator.atlas import Atlas, AtlasError, atlas
from kvmwhy.machine import MachineError
from kvmwhy.probe.encodings import all_forms, form_of
from kvmwhy.probe.host import Prober
from kvmwhy.probe.sweep_format import Probe, pack

ROOT = Path(__file__).parent.parent
CODES = tuple(bytes.fromhex(text) for text in ("8b 03", "d9 03", "48 89 13", "0f 10 03", "f3 0f b8 03", "0f 58 03"))
PROBES = [Probe(form_of(code, "long64"), "plain") for code in CODES]
AIM = 1 / 0.8


def timed(what: Callable[[], object], times: int) -> float:
    """Nanoseconds for one."""
    start = time.perf_counter()
    for _ in range(times):
        what()
    return (time.perf_counter() - start) / times * 1e9


def rivals(rounds: int, size: int) -> float:
    """Probes one after another, ours and in C. The median of the rounds' ratios."""
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as directory, Prober() as prober:
        program = Path(directory, "sweep")
        subprocess.run(["cc", "-O2", "-o", program, ROOT / "lab" / "sweep.c"], check=True)
        probes = (PROBES * (size // len(PROBES) + 1))[:size]
        batch, once = Path(directory, "batch"), Path(directory, "once")
        batch.write_bytes(pack(probes))
        once.write_bytes(pack(probes[:1]))

        def theirs(path: Path) -> float:
            start = time.perf_counter()
            subprocess.run([program, path], stdout=subprocess.DEVNULL, check=True)
            return time.perf_counter() - start

        def ours() -> float:
            start = time.perf_counter()
            for probe in probes:
                prober.raw(probe)
            return (time.perf_counter() - start) / size

        ours()
        pairs = [((theirs(batch) - theirs(once)) / (size - 1), ours()) for _ in range(rounds)]
    c, python = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{'one probe, with its comparison':40} C {1 / c:8.0f}/s   kvmwhy {1 / python:8.0f}/s   ratio {ratio:.2f}")
    return ratio


def sweep() -> None:
    forms = [form for form in all_forms() if form.mode == "long64" and form.defined and form.memory]
    with Prober() as prober:
        start = time.perf_counter()
        for form in forms:
            prober.ask(form)
        took = time.perf_counter() - start
    print(f"{'this host, 64-bit mode':40} {len(forms)} forms in {took:.1f} s")


def look_ups() -> None:
    path = Path(module.__file__).parent / "data" / "atlas.bin"
    data = path.read_bytes()
    known = atlas()
    print(f"{'the atlas':40} {len(data)} bytes, {len(known)} forms, {len(known.kernels)} kernels")
    print(f"{'  read and unpacked':40} {timed(lambda: Atlas(data), 50) / 1e6:.2f} ms")
    code = bytes.fromhex("66 0f 38 2a 07")
    first = timed(lambda: Atlas(data).look_up(code, "long64"), 20)
    print(f"{'  the same, and the first row':40} {first / 1e6:.2f} ms")
    print(f"{'  verdicts of an instruction':40} {timed(lambda: known.verdicts(code, 'long64'), 20_000) / 1e3:.2f} µs")
    print(f"{'  full row':40} {timed(lambda: known.look_up(code, 'long64'), 20_000) / 1e3:.2f} µs")
    print(f"{'all forms, generated':40} {len(all_forms())} in {timed(all_forms.__wrapped__, 3) / 1e9:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="the prober and the atlas, in figures")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, default=300, help="probes in a round")
    options = parser.parse_args()
    print(f"CPython {platform.python_version()}, Linux {platform.release()}")
    try:
        look_ups()
    except (AtlasError, OSError) as error:
        sys.exit(str(error))
    if shutil.which("cc") is None:
        sys.exit("no C compiler: the rest is left out")
    try:
        rivals(options.rounds, options.size)
        sweep()
    except MachineError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
