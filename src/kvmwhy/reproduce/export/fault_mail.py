"""A family of faults as a mail for a kernel list: what happens, where it was run and how, and the program."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmwhy.emulator.faults.family import Family
from kvmwhy.emulator.faults.history import since
from kvmwhy.emulator.faults.wording import tried
from kvmwhy.reproduce.export.fault_test import program_of, twice, write

WIDTH: Final = 72
_LISTS: Final = {
    "x86": ("kvm@vger.kernel.org", "linux-kernel@vger.kernel.org"),
    "riscv64": ("kvm-riscv@lists.infradead.org", "kvm@vger.kernel.org, linux-riscv@lists.infradead.org"),
}


class Run(NamedTuple):
    """What the program printed in one place: ``module`` of ``release``, on ``machine``."""

    release: str
    module: str
    machine: str
    printed: str

    @property
    def where(self) -> str:
        return f"Linux {self.release}, {self.module}, under {self.machine}"


def mail(family: Family, runs: Sequence[Run]) -> str:
    """Header and body. ``runs``: the newest kernel's first; what printed the same as the first is only named."""
    to, copy = _LISTS[family.arch]
    parts = [
        f"To: {to}\nCc: {copy}\nSubject: {family.prefix}: {family.title}\n",
        _folded(family.manual),
        _folded(family.does),
        _folded(f"The place is {family.place}. {family.why}"),
        _folded(f"Affected: {since(family)} {_forms(family)}"),
        _folded(family.also),
        _folded(f"Who meets it: {family.harm[0].lower()}{family.harm[1:]}"),
        _headed("How to see it", _folded(_how(family))),
        *_shown(runs),
        _folded(family.silicon and f"On a real CPU: {family.silicon}"),
        _headed("Suggestion", _folded(f"{family.suggestion} {tried(family)}".rstrip())),
        _headed("Earlier reports", _folded(family.known)),
        _headed("How it was found", _folded(_FOUND[family.arch])),
    ]
    body = "\n".join(part for part in parts if part)
    return f"{body}\n--- >8 --- {program_of(family)}.c ---\n{write(family, 'c')}"


_NO_SILICON: Final = (
    "Neither is silicon: the CPUs are emulated, and when they leave the guest is the emulators' doing. KVM is that of"
    " Debian's packages, unchanged."
)
_FOUND: Final = {
    "x86": (
        "By asking KVM for 37,506 encodings, each with its operand where no memory is and with its operand in RAM, and"
        " comparing what is left behind. Nobody is known to have met it in the field. The list and the tools are"
        " kvmwhy's, docs/emulator-faults.md and docs/atlas.md."
    ),
    "riscv64": (
        "By asking KVM for each load and store with its operand where no memory is. Nobody is known to have met it in"
        " the field. The list and the tools are kvmwhy's, docs/emulator-faults.md and docs/atlas.md."
    ),
}


def _forms(family: Family) -> str:
    count = len(family.forms)
    return f"{count} encodings of those that were asked for{' never end' if family.never_ends else ''}."


def _how(family: Family) -> str:
    needs = "The program below needs <linux/kvm.h> and a libc only."
    if family.arch == "riscv64":
        return f"{needs} It runs one store for each of several offsets, and prints what KVM_RUN returns."
    return (
        f"{needs} {twice(family)} Both ends are held against what the manuals say. It exits with 1 if KVM is wrong"
        " where the control is right; an internal error counts as right. The same as a selftest for"
        f" tools/testing/selftests/kvm/x86 is printed by `kvmwhy atlas --faults {family.id} --export selftest`."
    )


def _shown(runs: Sequence[Run]) -> list[str]:
    """The first in full; then those that printed the same, and what the others came to."""
    if not runs:
        return []
    first, *others = runs
    rows = [_folded(f"On {first.where}:"), textwrap.indent(first.printed.expandtabs(4), "    ") + "\n"]
    same: dict[str, list[str]] = {}
    for run in others:
        if run.printed == first.printed:
            same.setdefault(f"{run.module} under {run.machine}", []).append(run.release)
    if same:
        listed = "; ".join(f"{module}, Linux {', '.join(releases)}" for module, releases in same.items())
        rows.append(_folded(f"The same, to the letter: {listed}."))
    for run in others:
        if run.printed != first.printed:
            last = run.printed.splitlines()[-1] if run.printed else "nothing"
            rows.append(_folded(f"On {run.where}: {last}."))
    rows.append(_folded(_NO_SILICON))
    return rows


def _folded(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n" if text else ""


def _headed(head: str, text: str) -> str:
    return f"{head}\n{'-' * len(head)}\n\n{text}" if text else ""
