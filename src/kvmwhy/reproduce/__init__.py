"""Run again what failed: from a failure to a guest, from the guest to the same failure, or to why not.

>>> from kvmwhy.readers import read
>>> from kvmwhy.machine.model import Model
>>> (failure,) = read(open("guest.log", "rb").read()).failures  # doctest: +SKIP
>>> with Model(kernel="6.1", vendor="vmx") as machine:  # doctest: +SKIP
...     print(reproduce(failure, machine).answer)
Reproduced on this machine: internal error, suberror 1.
"""

from __future__ import annotations

from kvmwhy.machine import Machine
from kvmwhy.record import Failure
from kvmwhy.reproduce.build import run
from kvmwhy.reproduce.compare import compare
from kvmwhy.reproduce.guest_plan import Cannot, Plan
from kvmwhy.reproduce.outcome import Ended, Outcome, Row, Where, impossible
from kvmwhy.reproduce.planner import plan

__all__ = ["Cannot", "Ended", "Outcome", "Plan", "Row", "Where", "compare", "impossible", "plan", "reproduce", "run"]


def reproduce(failure: Failure, machine: Machine, *, where: Where | None = None) -> Outcome:
    """Make the guest of this failure, run it on an empty ``machine``, and compare.

    Bounded: half a second for each of at most 64 exits, memory for what the guest is known to touch.
    """
    planned = plan(failure)
    where = where or Where("this machine")
    if isinstance(planned, Cannot):
        return impossible(planned, where)
    return compare(planned, run(planned, machine), where)
