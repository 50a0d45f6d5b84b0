"""A known bug: what it looks like, which versions have it, and what to do."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kvmwhy.diagnosis.cause import Cause, Confidence, Fix
from kvmwhy.diagnosis.knowledge.kernel_version import Affected
from kvmwhy.diagnosis.knowledge.predicate import Shape, describe

Who = Literal["host-kernel", "vmm", "firmware", "outer-hypervisor", "cpu", "guest", "host-setup"]


class Bug(NamedTuple):
    """One entry. ``id`` never changes its meaning.

    ``shape`` must hold in full. A condition of ``hints`` that contradicts rules the bug out as well, but one that
    the evidence does not show is only missing. ``versions`` are of the host's kernel, or of QEMU for ``who`` "vmm".
    ``needs_version``: the shape alone says too little, so the version must be known to be affected.
    ``also`` names other bugs whose shape this one's example has too. ``corpus`` has the public reports that
    the entry was written with, for runs that must leave them out.
    """

    id: str
    title: str
    who: Who
    family: str
    shape: Shape
    what: str
    fix: Fix
    references: tuple[str, ...]
    example: str
    confused_with: str
    hints: Shape | None = None
    versions: Affected | None = None
    needs_version: bool = False
    at_most: Confidence = "likely"
    also: tuple[str, ...] = ()
    corpus: tuple[str, ...] = ()

    def cause(self) -> Cause:
        """The catalogue's page. What to recognise it by is said by the conditions themselves."""
        signs = [*describe(self.shape)]
        if self.hints:
            signs += [f"{sign}, if shown" for sign in describe(self.hints)]
        whose = "QEMU" if self.who == "vmm" else "host kernels"
        what = f"{self.what} Affected {whose}: {self.versions.text}." if self.versions else self.what
        return Cause(
            id=self.id,
            family=self.family,
            title=self.title,
            what=what,
            recognise="; ".join(signs) + ".",
            confused_with=self.confused_with,
            fix=self.fix,
            references=self.references,
            example=self.example,
        )
