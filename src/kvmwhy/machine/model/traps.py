"""What can stop an access of the guest, as exceptions; they never leave the model.

``GuestFault`` is the guest's own business: it gets the exception. ``Hole`` is KVM's: the access
reached a guest physical address where no memory is, or wrote to a read-only slot.
"""

from __future__ import annotations

from typing import Final, Literal

Kind = Literal["read", "write", "fetch"]

DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS, NP, SS, GP, PF, AC = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 17)
# SDM vol. 3A, table 6-1: the vectors with an error code on the stack, outside real mode.
WITH_ERROR_CODE: Final = frozenset((DF, TS, NP, SS, GP, PF, AC, 21, 29, 30))


class GuestFault(Exception):  # noqa: N818 -- the guest's exception, not an error of ours
    """An exception for the guest. ``cr2`` goes with #PF."""

    def __init__(self, vector: int, error_code: int | None = None, cr2: int | None = None) -> None:
        super().__init__(vector, error_code, cr2)
        self.vector = vector
        self.error_code = error_code
        self.cr2 = cr2

    @property
    def linear(self) -> int:
        """Where the access was; 0 if the fault is not about an address."""
        return self.cr2 or 0

    def move_to(self, linear: int) -> None:
        """The same fault, known more exactly."""
        if self.cr2 is not None:
            self.cr2 = linear


class Hole(Exception):  # noqa: N818 -- a fact about the guest's memory, not an error of ours
    """An access that has no memory behind it.

    ``walk``: the CPU was reading the guest's own page tables. ``readonly``: there is memory, but in a
    read-only slot. ``rights``: U, W and NX of the guest's own mapping (1, 2, 4), as far as it was walked.
    """

    def __init__(
        self, gpa: int, gva: int, kind: Kind, *, walk: bool = False, readonly: bool = False, rights: int = 0
    ) -> None:
        super().__init__(gpa, gva, kind)
        self.gpa = gpa
        self.gva = gva
        self.kind: Kind = kind
        self.walk = walk
        self.readonly = readonly
        self.rights = rights

    @property
    def linear(self) -> int:
        return self.gva

    def move_to(self, linear: int) -> None:
        """The same access, known more exactly; a page-table entry stays where it is."""
        if not self.walk:
            self.gpa += linear - self.gva
        self.gva = linear
