"""kvmwhy's machine against a C program that does the same ioctls: python bench/machine/compare.py.

Both stay alive and take turns in rounds of some milliseconds, so that whatever else the host does falls on
both. Shown are the medians, the median of the rounds' ratios, and the quarter of them on either side. With
--lives, 10,000 machines are also created, run and destroyed, and descriptors and memory are counted.

Exit status 0 if every aim was reached.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kvmwhy.machine import Guest, Hlt, InternalError, KvmMachine, MachineError, Mmio, Vcpu
from kvmwhy.machine.x86 import boot_state, state

HOLE = 0xD0000000
HERE = Path(__file__).parent
PROBES = tuple(
    bytes.fromhex(text).ljust(15, b"\xf4")
    for text in ("d9 03", "8a 03", "d9 13", "0f ae 23", "88 03", "dd 03", "c5 fe 6f 03", "8b 03")
)


def guest(text: str) -> Guest:
    return Guest("long64", bytes.fromhex(text).ljust(15, b"\xf4"), regs={"rbx": HOLE})


READER = guest("8a 03 eb fc")  # 1: mov (%rbx),%al; jmp 1b
FAILER = guest("d9 03")  # flds (%rbx)


# -- what is measured: each does so many operations -----------------------------------------------


def mmio(_machine: KvmMachine, vcpu: Vcpu, count: int) -> None:
    for _ in range(count):
        exit_ = vcpu.run()
        assert isinstance(exit_, Mmio), exit_
        vcpu.complete(b"\0")


def mmio_with_deadline(_machine: KvmMachine, vcpu: Vcpu, count: int) -> None:
    for _ in range(count):
        exit_ = vcpu.run(1.0)
        assert isinstance(exit_, Mmio), exit_
        vcpu.complete(b"\0")


def first(_machine: KvmMachine, _vcpu: Vcpu, count: int) -> None:
    for _ in range(count):
        with KvmMachine() as machine:
            assert isinstance(FAILER.load(machine).run(), InternalError)


def probes(machine: KvmMachine, vcpu: Vcpu, count: int) -> None:
    for code in itertools.islice(itertools.cycle(PROBES), count):
        machine.write(FAILER.origin, code)
        FAILER.restart(vcpu)
        exit_ = vcpu.run()
        assert isinstance(exit_, (InternalError, Mmio)), exit_


def probes_with_deadline(machine: KvmMachine, vcpu: Vcpu, count: int) -> None:
    for code in itertools.islice(itertools.cycle(PROBES), count):
        machine.write(FAILER.origin, code)
        FAILER.restart(vcpu)
        exit_ = vcpu.run(1.0)
        assert isinstance(exit_, (InternalError, Mmio)), exit_


class Row(NamedTuple):
    title: str
    ours: Callable[[KvmMachine, Vcpu, int], None]
    theirs: str  # rival's argument
    guest: Guest
    size: int  # operations in a round
    aim: float | None  # the largest ratio


ROWS = (
    Row("MMIO exit, answered", mmio, "mmio", READER, 1000, 1.2),
    Row("  with a deadline (C: without)", mmio_with_deadline, "mmio", READER, 1000, None),
    Row("create to first failure", first, "first", FAILER, 5, 1.3),
    Row("one probe, in one VM", probes, "synced", FAILER, 400, 1 / 0.8),
    Row("  with a deadline (C: without)", probes_with_deadline, "synced", FAILER, 400, None),
    Row("  C with KVM_SET_REGS and so on", probes, "probes", FAILER, 400, None),
)


# -- side by side ---------------------------------------------------------------------------------


def image(of: Guest) -> bytes:
    """The guest as rival.c reads it."""
    sregs = boot_state.sregs(of.mode, cpl=of.cpl, origin=of.origin, idt=None, xsave=False, bsp=True)
    memory = boot_state.low_memory(of.mode).ljust(of.origin, b"\0") + of.code + b"\xf4" * of.padding
    numbers = struct.pack("<4Q", of.memory, of.origin, len(PROBES[0]), len(PROBES))
    return state.sregs_to_bytes(sregs) + state.regs_to_bytes(of.start_regs()) + numbers + b"".join(PROBES) + memory


def build(directory: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("no C compiler")
    program = directory / "rival"
    subprocess.run([compiler, "-O2", "-Wall", "-o", program, HERE / "rival.c"], check=True)
    return program


@contextlib.contextmanager
def rival(program: Path, row: Row) -> Iterator[Callable[[], float]]:
    """A function that lets the C program do a round, and gives its nanoseconds per operation."""
    path = program.with_name("image")
    path.write_bytes(image(row.guest))
    command = [str(program), row.theirs, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        question, answers = process.stdin, process.stdout

        def turn() -> float:
            question.write(f"{row.size}\n")
            question.flush()
            return float(answers.readline())

        yield turn
        question.close()


@contextlib.contextmanager
def kvmwhy(row: Row) -> Iterator[Callable[[], float]]:
    """The same for us."""
    with KvmMachine() as machine:
        vcpu = row.guest.load(machine)

        def turn() -> float:
            start = time.perf_counter()
            row.ours(machine, vcpu, row.size)
            return (time.perf_counter() - start) / row.size * 1e9

        yield turn


def compare(program: Path, rounds: int) -> bool:
    print(f"CPython {platform.python_version()}, Linux {platform.release()}, {rounds} rounds each")
    print(f"{'':32} {'C':>11} {'kvmwhy':>11} {'ratio':>6} {'quartiles':>11} {'aim':>6}")
    good = True
    for row in ROWS:
        with rival(program, row) as theirs, kvmwhy(row) as ours:
            theirs(), ours()
            pairs = [(theirs(), ours()) for _ in range(rounds)]
        low, ratio, high = statistics.quantiles((b / a for a, b in pairs), n=4)
        c, python = (statistics.median(column) for column in zip(*pairs, strict=True))
        aim = f"≤{row.aim:.2f}" if row.aim else ""
        print(f"{row.title:32} {c / 1000:8.2f} µs {python / 1000:8.2f} µs {ratio:6.2f}   {low:.2f}-{high:.2f} {aim:>6}")
        if row.ours in {probes, probes_with_deadline}:
            print(f"{'  per second':32} {1e9 / c:11.0f} {1e9 / python:11.0f} {1 / ratio:6.0%}")
        good &= row.aim is None or ratio <= row.aim
    return good


def lives(count: int) -> None:
    """Create, run, destroy; what is left of it in this process."""

    def held() -> tuple[int, int]:
        gc.collect()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return len(os.listdir("/proc/self/fd")), int(status.split("VmRSS:")[1].split()[0])

    halting = guest("f4")

    def live(times: int) -> None:
        for _ in range(times):
            with KvmMachine() as machine:
                assert halting.load(machine).run(1.0) == Hlt()

    live(200)
    before = held()
    start = time.perf_counter()
    live(count)
    after = held()
    each = (time.perf_counter() - start) / count * 1e6
    print(
        f"{count} lives, {each:.0f} µs each: descriptors {before[0]} → {after[0]}, memory {before[1]} → {after[1]} KiB"
    )


def model() -> None:
    """Guest instructions and failures a second of the machine that needs no KVM; nothing to set beside it."""
    try:
        from kvmwhy.machine.model import Model
    except ImportError:
        print("the model is not measured: it needs the extra kvmwhy[model]")
        return
    loop = Guest("long64", bytes.fromhex("ff c9 75 fc f4"), regs={"rcx": 50_000_000})  # 1: dec %ecx; jnz 1b; hlt
    with Model("6.1", "svm") as machine:
        vcpu = loop.load(machine)
        start = time.perf_counter()
        assert vcpu.run() == Hlt()
        print(f"model: {100 / (time.perf_counter() - start):.0f} million instructions a second, in a loop of two")
    with Model("6.1", "svm") as machine:
        vcpu = FAILER.load(machine)
        start = time.perf_counter()
        for _ in range(2000):
            FAILER.restart(vcpu)
            assert isinstance(vcpu.run(), InternalError)
        print(f"model: {2000 / (time.perf_counter() - start):.0f} failures a second in one VM")
    start = time.perf_counter()
    for _ in range(300):
        with Model("6.1", "svm") as machine:
            assert isinstance(FAILER.load(machine).run(), InternalError)
    print(f"model: {300 / (time.perf_counter() - start):.0f} machines created, failed and destroyed a second")


def main() -> None:
    parser = argparse.ArgumentParser(description="kvmwhy's machine against the same in C")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--lives", action="store_true", help="10,000 machines, one after another")
    options = parser.parse_args()
    try:
        KvmMachine().close()
    except MachineError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as directory:
        good = compare(build(Path(directory)), options.rounds)
    model()
    if options.lives:
        lives(10_000)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
