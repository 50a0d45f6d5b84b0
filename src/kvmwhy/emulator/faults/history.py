"""On which of the measured kernels a family's forms are wrong."""

from __future__ import annotations

from typing import NamedTuple

from kvmwhy.abi.uname import Series
from kvmwhy.emulator.atlas import atlas
from kvmwhy.emulator.faults.family import Family
from kvmwhy.emulator.measured import Measured
from kvmwhy.emulator.trap_atlas import trap_atlas

_LOST = "error"


class Span(NamedTuple):
    """Kernels of one module, and how many of the family's forms are wrong on the newest of them."""

    module: str
    wrong: tuple[Series, ...]
    right: tuple[Series, ...]
    forms: int


def is_wrong(verdict: Measured | None, *, never_ends: bool) -> bool:
    """Carried out unlike a CPU; or, of a family that never ends, neither carried out nor refused."""
    if verdict is None:
        return False
    if never_ends:
        return verdict.kind in {"no-exit", "endless"}
    return verdict.kind == "emulated" and verdict.compared == "wrong"


def spans(family: Family) -> list[Span]:
    """Of each module that was measured without parameters of its own."""
    if family.arch == "riscv64":
        return [_riscv64(family)]
    rows = [atlas().look_up(bytes.fromhex(code), mode) for mode, code in family.forms]
    of_modules = []
    for vendor, module in (("svm", "kvm-amd"), ("vmx", "kvm-intel")):
        counts: dict[Series, int] = {}
        for number, kernel in enumerate(atlas().kernels):
            if (kernel.vendor, kernel.module_args) == (vendor, ""):
                verdicts = [row.verdicts[number] for row in rows if row is not None]
                if any(verdicts):  # else no form of it was asked there
                    counts[kernel.series] = sum(is_wrong(verdict, never_ends=family.never_ends) for verdict in verdicts)
        if any(counts.values()):
            of_modules.append(_span(module, counts))
    return of_modules


def _riscv64(family: Family) -> Span:
    known = trap_atlas("riscv64")
    counts: dict[Series, int] = {}
    for _, word in family.forms:
        row = known.look_up(int(word, 16))
        for column, trap in row.in_setup("bare") if row is not None else ():
            version = column.series
            counts[version] = counts.get(version, 0) + (trap.kind == _LOST)
    return _span("KVM of riscv64", counts)


def _span(module: str, counts: dict[Series, int]) -> Span:
    versions = sorted(counts)
    wrong = tuple(version for version in versions if counts[version])
    right = tuple(version for version in versions if not counts[version])
    return Span(module, wrong, right, counts[wrong[-1]] if wrong else 0)


def since(family: Family) -> str:
    """In a sentence or two: from the oldest measured kernel to the newest."""
    sentences = []
    for span in spans(family):
        fine = f", but not on {', '.join(map(_name, span.right))}" if span.right else ""
        sentences.append(f"Linux {extent(span)} on {span.module}{fine}")
    return f"{'; '.join(sentences)}, by the atlas. No older kernel was asked."


def extent(span: Span) -> str:
    """``5.10 to 7.3``, or the one."""
    names = list(dict.fromkeys((_name(span.wrong[0]), _name(span.wrong[-1]))))
    return " to ".join(names)


def _name(version: Series) -> str:
    return f"{version[0]}.{version[1]}"
