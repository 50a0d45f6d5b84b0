"""Every message of the host's kernel that kvmwhy knows: a slug, a role, and the format strings of all ages.

The tables are by the module that prints; ``ignored`` has those that say nothing about a guest's failure, with the
reason.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from kvmwhy.readers.kernel_log.host_messages import (
    arm64,
    devices,
    kernel,
    kvm_x86,
    other_architectures,
    sev,
    svm,
    tdx,
    vmx,
)
from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, Role
from kvmwhy.readers.kernel_log.host_messages.printf import Pattern, Value
from kvmwhy.record import Arch

MESSAGES: Final[tuple[HostMessage, ...]] = (
    *kvm_x86.MESSAGES,
    *vmx.MESSAGES,
    *svm.MESSAGES,
    *sev.MESSAGES,
    *tdx.MESSAGES,
    *devices.MESSAGES,
    *arm64.MESSAGES,
    *other_architectures.RISCV64,
    *other_architectures.PPC64,
    *other_architectures.S390X,
    *other_architectures.LOONGARCH,
    *other_architectures.MIPS,
    *kernel.REPORTS,
    *kernel.MESSAGES,
)
_OF_ARCH: Final[tuple[tuple[Arch, tuple[HostMessage, ...]], ...]] = (
    ("x86", (*kvm_x86.MESSAGES, *vmx.MESSAGES, *svm.MESSAGES, *sev.MESSAGES, *tdx.MESSAGES)),
    ("arm64", arm64.MESSAGES),
    ("riscv64", other_architectures.RISCV64),
    ("ppc64", other_architectures.PPC64),
    ("s390x", other_architectures.S390X),
    ("loongarch", other_architectures.LOONGARCH),
    ("mips", other_architectures.MIPS),
)
REPORTS: Final = frozenset(message.slug for message in kernel.REPORTS)  # of several lines
GENERAL: Final = REPORTS | {
    message.slug for message in kernel.MESSAGES
}  # of any kernel: a guest's console has them as well
# The second and third line of a message: what they say is put to the first.
PARTS: Final[dict[str, str]] = {
    "sysreg-encoding": "sysreg-refused",
    "riscv-exit-state": "riscv-exit-error",
    "hyp-panic-state": "hyp-panic",
    "seamcall-registers": "seamcall-failed",
    "ept-misconfig-gpa": "ept-misconfig",
    "ept-misconfig-bits": "ept-misconfig",
    "ept-misconfig-type": "ept-misconfig",
    "ept-not-mapped": "ept-walk-failed",
    "ppc-guest-state": "ppc-trap-in-host",
}

# Parts that say something where the line before them is lost.
TELLING_ALONE: Final = frozenset({"riscv-exit-state", "sysreg-encoding"})


class Known(NamedTuple):
    slug: str
    role: Role
    pattern: Pattern


class Reading(NamedTuple):
    """What a message was read as, and how much of it."""

    slug: str
    fields: dict[str, Value]
    end: int


@cache
def known() -> tuple[Known, ...]:
    return tuple(Known(message.slug, message.role, Pattern(form)) for message in MESSAGES for form in message.formats)


@cache
def roles() -> dict[str, Role]:
    """The role of each slug; a slug in several tables has the same in all."""
    return {message.slug: message.role for message in MESSAGES}


@cache
def architectures() -> dict[str, Arch]:
    """Whose KVM a slug is of, where only one's prints it."""
    named: dict[str, set[Arch]] = {}
    for arch, messages in _OF_ARCH:
        for message in messages:
            named.setdefault(message.slug, set()).add(arch)
    return {slug: next(iter(archs)) for slug, archs in named.items() if len(archs) == 1}


@cache
def marks() -> tuple[str, ...]:
    """What a line must hold to be one of these: the longest fixed text of each format."""
    return tuple(dict.fromkeys(message.pattern.mark for message in known()))


@cache
def by_mark() -> dict[str, tuple[Known, ...]]:
    table: dict[str, tuple[Known, ...]] = {}
    for message in known():
        table[message.pattern.mark] = (*table.get(message.pattern.mark, ()), message)
    return table


def read(text: str, with_marks: list[str]) -> Reading | None:
    """The message at the beginning of ``text``, by the format that explains most of it."""
    best: Reading | None = None
    for mark in with_marks:
        for message in by_mark()[mark]:
            parsed = message.pattern.read(text)
            if parsed and (best is None or parsed.end > best.end):
                best = Reading(message.slug, parsed.fields, parsed.end)
    return best
