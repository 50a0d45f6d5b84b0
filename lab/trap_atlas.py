"""The atlas of arm64 and riscv64: from what `lab/run.py arm64` and `riscv64` measured to the package's data.

    python -m lab.trap_atlas write                          src/kvmwhy/emulator/data/traps-*.bin, out of all results
    python -m lab.trap_atlas sample arm64 --kernel 6.1 7.3 --every 20    some forms again: exit status 1 if they differ

Forms have their text from binutils' objdump of that architecture. Exit status: 0; 1 if a kernel gave no outcomes, or a
sample differs from the atlas; 2 usage; 3 if something is missing here; 4 if the atlas has no such kernel on this QEMU.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from kvmwhy.arch.riscv64.forms import is_compressed
from kvmwhy.emulator.trap_atlas import TrapAtlas
from kvmwhy.emulator.trap_file import Column, Entry, Trap, pack
from lab import benches, kernels, traps
from lab.console import complain, say
from lab.outcome import Provenance, open_results
from lab.ready import NotReadyError, kernels_for, work_directory
from lab.run import ROOT

DATA: Final = ROOT / "src" / "kvmwhy" / "emulator" / "data"
# As in trap_sweep.c and its headers.
_HOLE: Final = 0x0D000000
_ROM: Final = {"arm64": 0x8000_0000, "riscv64": 0xC000_0000}
_STORED: Final = {"arm64": 0x4444_4444_4444_4444, "riscv64": 0xCCCC_CCCC_CCCC_CCCC}  # x4, a2
_NEAR: Final = 0x10000
_NISV: Final = 28
PREFIX: Final = {"arm64": "aarch64-linux-gnu", "riscv64": "riscv64-linux-gnu"}
_AS: Final = {"arm64": (), "riscv64": ("-march=rv64gcvh_zfh_zicbom_zicboz_zicbop",)}
_LINE: Final = re.compile(r"^\s*([0-9a-f]+):\t[0-9a-f ]+\t(.*)$")
_UNDEFINED: Final = 0x2000000  # ESR_EL1: exception class 0, a 32-bit instruction


class Measured(NamedTuple):
    column: Column
    traps: dict[tuple[int, str], Trap]  # by form and setup


def trap_of(line: traps.Line, arch: str) -> Trap:
    """One line of trap_sweep.c as the atlas has it."""
    accesses = "".join(f"{'w' if access.is_write else 'r'}{access.length}" for access in line.mmio)
    operand = _ROM[arch] if line.setup.startswith("read-only") else _HOLE
    operand += "misaligned" in line.setup

    def offset(address: int) -> int | None:
        return address - operand if abs(address - operand) < _NEAR else None

    match line.end:
        case "done":
            return Trap("mmio" if accesses else "done", accesses)
        case "errno":
            return Trap("error", accesses, line.errno)
        case "exit" if line.exit == _NISV:
            return Trap("nisv", accesses, int(line.words[0], 16), offset(int(line.words[1], 16)))
        case "exit":
            return Trap("exit", accesses, line.exit)
        case "exception":
            cause = int(line.cause, 16) & 0xFFFF_FFFF if arch == "arm64" else int(line.cause, 16)
            undefined = cause == _UNDEFINED if arch == "arm64" else cause in {2, 22}
            return Trap("exception", accesses, cause, None if undefined else offset(int(line.address, 16)))
        case "timeout":
            return Trap("timeout", accesses)
        case _:
            return Trap("endless", accesses[: len(accesses) // 2])


def measured(path: Path) -> Measured:
    """A results file of `lab/run.py arm64` or `riscv64`."""
    first, _, rest = open_results(path).partition(b"\n")
    head = msgspec.json.decode(first, type=Provenance)
    arch = head.vendor
    read = traps.lines_of(rest)
    for wrong in wrong_data(read, arch):
        complain(f"{head.release}: {wrong}")
    lines = {(int(line.word, 16), line.setup): trap_of(line, arch) for line in read}
    column = Column(
        release=head.release,
        version=head.version,
        bench=head.bench,
        cpu=head.cpu,
        date=head.date,
        command=f"python lab/run.py {arch} --kernel {head.release}",
        forms=len({word for word, _ in lines}),
    )
    return Measured(column, lines)


def texts(arch: str, words: Sequence[int]) -> dict[int, str]:
    """Each word as objdump prints it, "" where it knows none."""
    prefix = PREFIX[arch]
    sizes = {word: 2 if arch == "riscv64" and is_compressed(word) else 4 for word in words}
    directive = ".insn {size}, {word:#x}" if arch == "riscv64" else ".inst {word:#x}"
    source = "\n".join(directive.format(size=size, word=word) for word, size in sizes.items())
    options = ["-M", "no-aliases"] if arch == "riscv64" else []  # c.lw is no lw; but DC and IC are aliases of SYS
    with tempfile.TemporaryDirectory() as name:
        target = Path(name, "words.o")
        subprocess.run([f"{prefix}-as", *_AS[arch], "-o", target, "-"], input=f"{source}\n", text=True, check=True)
        listing = subprocess.run(
            [f"{prefix}-objdump", "-d", "-z", *options, target], check=True, capture_output=True, text=True
        ).stdout
    known = dict.fromkeys(words, "")
    found = [match for line in listing.splitlines() if (match := _LINE.match(line))]
    for word, match in zip(sizes, found, strict=True):
        text = " ".join(match[2].partition("//")[0].partition(" # ")[0].split())
        if not re.match(r"\.|unimp|0x|c\.unimp", text) and "unknown" not in text and "undefined" not in match[2]:
            known[word] = text
    return known


def _emulator(column: Column) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", column.emulator)))


def _write(work: Path) -> int:
    status = 0
    for arch in traps.SETUPS:
        files = sorted((work / "results").glob(f"{arch}-*.jsonl*"))
        columns = sorted(map(measured, files), key=lambda one: (one.column.series, _emulator(one.column)))
        if not columns:
            complain(f"no results of {arch} in {work / 'results'}: run `python lab/run.py {arch}` first")
            status = 3
            continue
        forms, setups = traps.FORMS[arch](), traps.SETUPS[arch]
        names = texts(arch, forms)
        entries = [
            Entry(word, names[word], tuple(one.traps.get((word, setup)) for one in columns for setup in setups))
            for word in forms
        ]
        target = DATA / f"traps-{arch}.bin"
        target.write_bytes(pack(arch, [one.column for one in columns], setups, entries))
        atlas = TrapAtlas(target.read_bytes())
        rows = len(atlas.head.rows)
        say(f"{target}: {target.stat().st_size} bytes, {len(atlas)} forms, {rows} different, {len(columns)} columns")
    return status


def column_of(atlas: TrapAtlas, release: str, bench: str) -> int | None:
    """The column of the same series on the same version of the emulator."""
    name = Column(release, "", bench, "", "", "", 0).name
    return next((n for n, column in enumerate(atlas.head.columns) if column.name == name), None)


def disagreements(atlas: TrapAtlas, column: int, lines: Sequence[traps.Line]) -> Iterator[str]:
    """What was said now and not by the atlas; and stores whose data was not the register's."""
    for line in lines:
        row = atlas.look_up(int(line.word, 16))
        now = trap_of(line, atlas.head.arch)
        known = row and row.traps[column * len(row.setups) + row.setups.index(line.setup)]
        if known != now:
            yield f"{line.word} {row.text if row else ''}, {line.setup}: {known} in the atlas, {now} now"
    yield from wrong_data(lines, atlas.head.arch)


def wrong_data(lines: Sequence[traps.Line], arch: str) -> Iterator[str]:
    """Stores that userspace was told of with other data than their register's."""
    for line in lines:
        for access in line.mmio:
            if access.is_write and int(access.data, 16) != _STORED[arch] & (1 << 8 * access.length) - 1:
                yield f"{line.word}, {line.setup}: {access.data} was written"


def _sample(options: argparse.Namespace) -> int:
    arch = options.arch
    try:
        chosen = kernels_for(arch, options.work, options.kernel)
    except NotReadyError as error:
        complain(str(error))
        return 3
    atlas = TrapAtlas((DATA / f"traps-{arch}.bin").read_bytes())
    forms = traps.FORMS[arch]()[:: options.every]
    status = 0
    for kernel in chosen:
        try:
            output = traps.ask(arch, kernel, forms, traps.SETUPS[arch], options.work, kernel_args=options.kernel_args)
        except benches.BenchError as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        lines = traps.lines_of(output.data)
        column = column_of(atlas, kernel.release, benches.version(arch))
        if column is None:
            complain(f"{kernel.release}: the atlas was not measured with {benches.version(arch)}")
            status = status or kernels.MISSING
            continue
        differing = list(disagreements(atlas, column, lines))
        complete = len(lines) == len(forms) * len(traps.SETUPS[arch])
        say(f"{kernel.release}: {len(lines)} answers, {len(differing)} differ from the atlas, {output.seconds:.0f} s")
        for line in differing[:40]:
            say(f"    {line}")
        if differing or not complete:
            status = 1
    return status


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lab.trap_atlas", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("write", "sample"))
    parser.add_argument("arch", nargs="?", choices=tuple(traps.SETUPS), default="arm64")
    parser.add_argument("--kernel", nargs="+", default=[], metavar="SERIES")
    parser.add_argument("--every", type=int, default=20, help="of a sample: one form in so many")
    parser.add_argument("--kernel-args", default="", help="of a sample: such as kvm-arm.mode=nvhe")
    parser.add_argument("--work", type=Path, default=work_directory(), help="default: %(default)s")
    options = parser.parse_args(arguments)
    options.work = options.work.absolute()
    return _write(options.work) if options.command == "write" else _sample(options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
