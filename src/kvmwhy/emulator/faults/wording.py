"""What is said alike of a family on the page and in its mail."""

from __future__ import annotations

from typing import Final

from kvmwhy.emulator.faults.family import Family

_RESULTS: Final = {
    "right": "each guest of the test comes out right",
    "gives up": "each guest of the test ends in an internal error, suberror 1, as it should where KVM cannot go on",
}


def tried(family: Family) -> str:
    """That the suggestion was tried, and what came of it; "" if it was not."""
    if not family.tried:
        return ""
    return (
        "Tried (the first way, where two are named), with the other suggestions for x86, in a kvm.ko of Debian's 7.3.4"
        f" that was built anew (kvm-amd, QEMU's TCG): {_RESULTS[family.tried]}."
    )
