"""A known bug: what it looks like, which versions have it, and what to do."""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.diagnosis.cause import Cause, Confidence, Fix
from kvmwhy.diagnosis.knowledge.kernel_version import Affected
from kvmwhy.diagnosis.knowledge.predicate import Shape, describe


class Bug(Struct, frozen=True):
    """One entry. ``id`` never changes its meaning.

    ``origin`` is a slug of ``sign.ORIGINS``, and ``weight`` what a match adds to it, in half steps of log-odds: half
    a step more if the version shown is an affected one, nothing if it is not. An entry in the ``nursery`` has no
    example that it fires on: it is shown as "also look at" and decides nothing (tools/knowledge_lint.py holds that).
    ``shape`` must hold in full. A condition of ``hints`` that contradicts rules the bug out as well, but one that
    the evidence does not show is only missing. ``versions`` are of the host's kernel, or of QEMU if the id begins
    with ``bug-qemu-``. ``needs_version``: the shape alone says too little, so the version must be known to be
    affected. ``also`` names other bugs whose shape this one's example has too. ``corpus`` has the public reports
    that the entry was written with. ``same`` is the cause of the rules that says the same less exactly: they are one
    finding then, the surer of the two.
    """

    id: str
    title: str
    origin: str
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
    weight: float = 1.5
    same: str | None = None
    nursery: bool = False

    @property
    def of_qemu(self) -> bool:
        """Whether ``versions`` are QEMU's."""
        return self.id.startswith("bug-qemu-")

    def cause(self) -> Cause:
        """The catalogue's page. What to recognise it by is said by the conditions themselves."""
        signs = [*describe(self.shape)]
        if self.hints:
            signs += [f"{sign}, if shown" for sign in describe(self.hints)]
        whose = "QEMU" if self.of_qemu else "host kernels"
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
