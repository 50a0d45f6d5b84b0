"""An exit that is read from kvm_run itself, which no VMM says anything of."""

from __future__ import annotations

from kvmwhy.record import Failure


def is_only_a_page(failure: Failure) -> bool:
    """No line names the exit: the page keeps the last one, whether the VMM answered it or not."""
    return (
        failure.exit_reason is not None
        and failure.source.line is None
        and failure.speaker is None
        and failure.symptom is None
        and not failure.trace
    )
