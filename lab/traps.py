"""Asks real KVM of arm64 and riscv64 what becomes of an access where there is no memory, instruction by instruction.

One boot asks all words in all setups: trap_sweep.c runs them, this takes the lines that it prints.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from kvmwhy.arch.arm64 import forms as arm64_forms
from kvmwhy.arch.riscv64 import forms as riscv64_forms
from lab import command
from lab.benches import BENCHES, build
from lab.kernels import Kernel

# Of each architecture, the setups of its header in lab/.
SETUPS: Final = {
    "arm64": (
        *("mmu-off", "mmu-on", "mmu-off-nisv", "mmu-on-nisv", "read-only", "read-only-nisv"),
        *("el0", "el0-nisv", "mmu-off-abort", "mmu-on-abort", "mmu-off-misaligned-nisv", "mmu-on-misaligned-nisv"),
    ),
    "riscv64": ("bare", "sv39", "bare-misaligned", "sv39-misaligned", "read-only", "user"),
}
FORMS: Final = {"arm64": arm64_forms.forms, "riscv64": riscv64_forms.forms}
LIMIT: Final = 3000.0


class Access(NamedTuple):
    """One exit for MMIO; ``data``, of a write, as a number."""

    address: str
    length: int
    is_write: int
    data: str


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What KVM_RUN returned for one word in one setup: see trap_sweep.c."""

    setup: str
    word: str
    mmio: tuple[Access, ...] = ()
    end: str = ""
    errno: int = 0
    exit: int = 0
    words: tuple[str, ...] = ()
    cause: str = ""
    address: str = ""


def bench_suffix(bench: str) -> str:
    """For a file's name: another version of QEMU is another CPU."""
    return "-qemu-" + bench.rsplit(" version ", maxsplit=1)[-1].split(" ", maxsplit=1)[0]


def words_of(forms: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(forms)}I", *forms)


def ask(
    bench: str, kernel: Kernel, forms: Sequence[int], setups: Sequence[str], work: Path, *, kernel_args: str = ""
) -> command.Output:
    """Boot the kernel and ask it; the output's ``data`` are lines. Raises BenchError."""
    program = build("trap_sweep.c", work / f"trap_sweep-{bench}", BENCHES[bench].architecture)
    return command.run(
        *(bench, kernel, f"/trap_sweep /words {' '.join(setups)} 2> /dev/console", work),
        files={"trap_sweep": program.read_bytes(), "words": words_of(forms)},
        kernel_args=kernel_args,
        limit=LIMIT,
        scratch="traps",
    )


def lines_of(data: bytes) -> list[Line]:
    return [msgspec.json.decode(line, type=Line) for line in data.splitlines()]
