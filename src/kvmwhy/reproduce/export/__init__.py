"""A plan as something to hand over: a C program, a KVM selftest, a kvm-unit-test, a mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from kvmwhy.record import Failure
from kvmwhy.reproduce.guest_plan import Plan
from kvmwhy.reproduce.outcome import Outcome

Format = Literal["c", "selftest", "kvm-unit-test", "report"]
FORMATS: Final[tuple[Format, ...]] = ("c", "selftest", "kvm-unit-test", "report")


class ExportError(ValueError):
    """This plan cannot be written in that form."""


def export(form: Format, plan: Plan, failure: Failure, outcome: Outcome | None = None) -> str:
    """The whole file. Raises ExportError."""
    from kvmwhy.reproduce.export import c, kvm_unit_test, report, selftest

    writers: dict[Format, Callable[[], str]] = {
        "c": lambda: c.write(plan),
        "selftest": lambda: selftest.write(plan),
        "kvm-unit-test": lambda: kvm_unit_test.write(plan),
        "report": lambda: report.write(plan, failure, outcome),
    }
    return writers[form]()
