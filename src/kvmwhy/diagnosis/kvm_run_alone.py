"""An exit that is read from kvm_run itself, which no VMM says anything of."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.kvm_run import EXIT_UNKNOWN, EXITS, ROUTINE
from kvmwhy.record import Failure

_BARE: Final = ROUTINE | {EXIT_UNKNOWN}  # some have no member in the union


def is_only_a_page(failure: Failure) -> bool:
    """No line names the exit: the page keeps the last one, whether the VMM answered it or not.

    A record without private details has lost its line, too; a page's has what only a page has: all members of its exit.
    """
    reason, source = failure.exit_reason, failure.source
    if reason is None or source.line is not None or source.vmm is not None:
        return False
    if failure.speaker is not None or failure.symptom is not None or failure.trace:
        return False
    if failure.kind == "internal-error":
        return failure.ndata is not None
    return (
        bool(failure.exit_fields) or reason in ROUTINE or reason not in EXITS or failure.kind != "other" or not reason
    )
