"""What an emulator was seen to make of one instruction."""

from __future__ import annotations

from typing import Literal, NamedTuple

# emulated   carried out: the guest went on behind it, or where it leads
# fails      KVM_EXIT_INTERNAL_ERROR, `code` is the suberror
# exception  the guest got exception `code`
# no-exit    KVM_RUN did not return, and RIP did not move
# endless    the same accesses to the device again and again
# shutdown   a triple fault       exit   another exit, `code` is its reason
# refused    the state could not be set       error   KVM_RUN failed, `code` is the errno
Kind = Literal["emulated", "fails", "exception", "no-exit", "endless", "shutdown", "exit", "refused", "error"]
KINDS: tuple[Kind, ...] = (
    *("emulated", "fails", "exception", "no-exit", "endless", "shutdown", "exit", "refused", "error"),
)
# How it agrees with the CPU's own execution on RAM: not compared, alike, or the CPU did what `wrong` says.
Compared = Literal["no", "same", "wrong"]


class Measured(NamedTuple):
    """One verdict. ``accesses``: those that userspace saw, in order, as ``r8r8w4``; ``i`` and ``o`` are ports.

    ``ndata`` and ``fetched`` (bytes of instruction in the record) are of a failure. ``wrong``: what differed from the
    CPU's own execution of the same bytes on RAM with the same data.
    """

    kind: Kind
    code: int = 0
    ndata: int = 0
    fetched: int = 0
    accesses: str = ""
    compared: Compared = "no"
    wrong: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        return self.kind == "emulated"

    @property
    def is_right(self) -> bool:
        """Carried out, and as a CPU does it, as far as that was compared."""
        return self.works and self.compared != "wrong"

    def same_outcome(self, other: Measured) -> bool:
        """Equal but for the layout of the failure's record, and for the comparison with a CPU."""
        return (self.kind, self.code, self.accesses) == (other.kind, other.code, other.accesses)
