"""Which known bugs fit a failure: by shape first, by version second."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from msgspec import Struct

from kvmwhy.diagnosis.cause import Cause, Confidence, Finding
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.kernel_version import Within, kernel_within, qemu_within
from kvmwhy.diagnosis.knowledge.predicate import Asked, asked, basic_reason

Key = tuple[str, int | None]  # kind and suberror

# What most shapes name as one of a few values: by the first of these that it has, a bug is found without asking.
_NAMED: Final[dict[str, Callable[[Facts], object]]] = {
    "hardware_error": lambda facts: facts.failure.hardware_error,
    "errno": lambda facts: facts.failure.errno,
    "exception": lambda facts: facts.failure.exception,
    "vmm_exit": lambda facts: facts.failure.exit_reason,
    "mnemonic": lambda facts: facts.instruction.mnemonic if facts.instruction else None,
    "reason": basic_reason,
}


_OF_ALL: Final = frozenset({"kind", "suberror"})  # what the index itself asks


class Match(Struct, frozen=True):
    """A bug whose conditions all hold, with what the evidence says about each."""

    bug: Bug
    within: Within
    finding: Finding

    @property
    def weight(self) -> float:
        """Log-odds for the bug's origin."""
        return self.bug.weight + (0.5 if self.within == "yes" and self.bug.versions else 0)


class _Ready(Struct, frozen=True):
    """A bug with what it asks for laid out. ``order`` is its place among all."""

    order: int
    bug: Bug
    must: tuple[Asked, ...]
    may: tuple[Asked, ...]


class _Bucket(Struct, frozen=True):
    """The bugs of one kind of failure: by each name in use, and those that have no such name."""

    named: list[tuple[Callable[[Facts], object], dict[object, list[_Ready]]]]
    rest: list[_Ready]


@cache
def all_bugs() -> tuple[Bug, ...]:
    """Every known bug. Read on the first call only."""
    from kvmwhy.diagnosis.knowledge.bugs import (
        cpu,
        emulator,
        firmware,
        guest,
        host_kernel,
        host_setup,
        outer_hypervisor,
        vmm,
    )

    tables = (host_kernel, emulator, cpu, vmm, firmware, outer_hypervisor, host_setup, guest)
    return tuple(bug for table in tables for bug in table.BUGS)


@cache
def _index() -> dict[Key, _Bucket]:
    kinds: dict[Key, list[_Ready]] = {}
    for order, bug in enumerate(all_bugs()):
        must = tuple(predicate for predicate in asked(bug.shape) if predicate.name not in _OF_ALL)
        ready = _Ready(order, bug, must, asked(bug.hints))
        kinds.setdefault((bug.shape.kind or "", bug.shape.suberror), []).append(ready)
    return {key: _bucket(bugs) for key, bugs in kinds.items()}


def _bucket(bugs: list[_Ready]) -> _Bucket:
    by: dict[str, dict[object, list[_Ready]]] = {}
    rest = []
    for ready in bugs:
        name = next((name for name in _NAMED if getattr(ready.bug.shape, name) is not None), None)
        if name is None:
            rest.append(ready)
            continue
        values = getattr(ready.bug.shape, name)
        for value in values if isinstance(values, tuple) else (values,):
            by.setdefault(name, {}).setdefault(value, []).append(ready)
    return _Bucket([(_NAMED[name], values) for name, values in by.items()], rest)


def matches(facts: Facts, *, omit: frozenset[str] = frozenset()) -> tuple[Match, ...]:
    """Every known bug that fits, likely ones first. ``omit`` has the ids of bugs that are not to be used."""
    bucket = _index().get((facts.failure.kind, facts.failure.suberror))
    if bucket is None:
        return ()
    asked_for = [ready for name, values in bucket.named for ready in values.get(name(facts), ())] + bucket.rest
    holding = [ready for ready in asked_for if _holds(ready.must, facts)]
    if not holding:
        return ()
    holding.sort(key=lambda ready: ready.order)
    fitting = [match for ready in holding if ready.bug.id not in omit and (match := _match(ready, facts)) is not None]
    fitting.sort(key=lambda match: match.finding.confidence != "likely")
    return tuple(fitting)


def known(facts: Facts, *, omit: frozenset[str] = frozenset()) -> tuple[Finding, ...]:
    """One finding for each known bug that fits, likely ones first; those of the nursery last."""
    fitting = matches(facts, omit=omit)
    return tuple(match.finding for match in sorted(fitting, key=lambda match: match.bug.nursery))


@cache
def _cause(order: int) -> Cause:
    return all_bugs()[order].cause()


@cache
def _texts(order: int) -> tuple[str, ...]:
    """What a bug's conditions say, those aside that all of its kind have."""
    return tuple(predicate.text for predicate in asked(all_bugs()[order].shape) if predicate.name not in _OF_ALL)


def causes() -> tuple[Cause, ...]:
    """The catalogue's page of each bug."""
    return tuple(_cause(order) for order in range(len(all_bugs())))


def _holds(must: tuple[Asked, ...], facts: Facts) -> bool:
    for _, test, value, _ in must:  # noqa: SIM110  a generator would cost more than the questions
        if not test(facts, value):
            return False
    return True


def _match(ready: _Ready, facts: Facts) -> Match | None:
    bug = ready.bug
    answers = [(asked_for, asked_for.test(facts, asked_for.value)) for asked_for in ready.may]
    within, about = _version(bug, facts)
    if within == "no" or any(answer is False for _, answer in answers):
        return None
    if bug.needs_version and within != "yes":
        return None
    for_ = [*_texts(ready.order), *(may.text for may, answer in answers if answer)]
    against = [f"not shown: whether {predicate.text}" for predicate, answer in answers if answer is None]
    if about:
        (for_ if within == "yes" else against).append(about)
    elif bug.origin == "outer-hypervisor" and facts.failure.host.hypervisor is None:
        against.append("nothing here says whether this host is itself a virtual machine")
    sure = within == "yes" and bug.at_most == "likely" and not bug.nursery
    confidence: Confidence = "likely" if sure else "possible"
    title = f"Also look at: {bug.title}." if bug.nursery else f"{bug.title}."
    return Match(bug, within, Finding(_cause(ready.order), confidence, title, tuple(for_), tuple(against)))


def _version(bug: Bug, facts: Facts) -> tuple[Within, str | None]:
    """Whether the version shown has the bug, and the clause that says so."""
    if bug.versions is None:
        return "maybe", None
    host = facts.failure.host
    if bug.of_qemu:
        name, within, what = host.qemu, qemu_within(host.qemu, bug.versions), "QEMU"
    else:
        name, within, what = host.kernel, kernel_within(host.kernel, bug.versions), "the host's kernel"
    if name is None:
        return within, f"{what}'s version is not shown; affected: {bug.versions.text}"
    if within == "yes":
        return within, f"{what} {name} is among the affected ones ({bug.versions.text})"
    return within, f"{what} {name} may have the fix already (affected: {bug.versions.text})"
