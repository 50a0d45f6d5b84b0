"""What of an input could not be read: said as it comes, and whether it leaves the answer open (status 4)."""

from __future__ import annotations

from typing import Final

from kvmwhy.cli.output import complain
from kvmwhy.diagnosis import diagnose
from kvmwhy.record import Failure

_MOST_COMPLAINTS: Final = 20


class Complaints:
    """To stderr as they come, the first few; the rest are counted."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, sentence: str) -> None:
        self.made += 1
        if self.made <= _MOST_COMPLAINTS:
            complain(sentence)

    def close(self) -> None:
        if self.made > _MOST_COMPLAINTS:
            complain(f"{self.made - _MOST_COMPLAINTS} more remarks of this kind are not shown")


def lost_what_matters(failure: Failure) -> bool:
    """Whether something is torn that leaves the answer open: a certain one stands, whatever else was lost."""
    if not failure.damage:
        return False
    answered = diagnose(failure).mechanism
    return answered is None or answered.certainty != "certain"
