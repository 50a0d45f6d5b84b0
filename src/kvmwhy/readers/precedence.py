"""Which records stand, where several readers had one text: KVM's own record wins over what only looks like one."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from kvmwhy.record import Failure

# From what says least on.
_YIELDS: Final = {"unread": 0, "healthy": 0, "symptom": 1, "not-kvm": 2, "host-trouble": 3}
_GENUINE: Final = 9
_BACKEND: Final = "backend"  # a VMM says so: it runs on another hypervisor, and its errors read as KVM's
_HEADLESS: Final = "the line that names the failure is missing"  # readers.qemu.pairing says so of a dump alone


def standing(failures: tuple[Failure, ...]) -> tuple[Failure, ...]:
    """Without those that yield: a symptom where the record is shown, another hypervisor's line beside KVM's own.

    A register dump alone is nobody's record: beside an emulator's line it is the emulator's.
    """
    failures = tuple(_named(failure) for failure in failures)
    if len(failures) < 2:
        return failures
    others = [failure for failure in failures if failure.kind == "not-kvm"]
    if any(other.speaker is not None and _BACKEND in other.speaker.fields for other in others):
        return tuple(others)
    if others:
        failures = _adopted(failures, others)
    highest = max(_rank(failure) for failure in failures)
    if highest == _GENUINE:
        return tuple(f for f in failures if _rank(f) == _GENUINE or f.kind == "host-trouble")
    return tuple(f for f in failures if _rank(f) == highest)


def _named(failure: Failure) -> Failure:
    """What a dump alone lacks, the line that it belongs to, another reader has found."""
    if failure.kind not in {"setup-refused", "not-kvm"} or not any(_HEADLESS in text for text in failure.damage):
        return failure
    named: Failure = replace(failure, damage=tuple(text for text in failure.damage if _HEADLESS not in text))
    return named


def without_echoes(failures: tuple[Failure, ...], own: tuple[Failure, ...]) -> tuple[Failure, ...]:
    """Without the words in which a report of kvmwhy's says what its own record beside them has."""
    recorded = {(failure.kind, failure.suberror) for failure in own}
    return tuple(
        failure
        for failure in failures
        if failure.data or failure.cpu is not None or (failure.kind, failure.suberror) not in recorded
    )


def _rank(failure: Failure) -> int:
    return _YIELDS.get(failure.kind, _GENUINE)


def _adopted(failures: tuple[Failure, ...], others: list[Failure]) -> tuple[Failure, ...]:
    """The dumps that another hypervisor printed, as its own."""
    owner = others[0]
    speaks = owner.speaker.name if owner.speaker else ""
    lines = {other.source.line for other in others}
    same_words = [f for f in failures if f.kind != "not-kvm" and f.source.line in lines and f.control is None is f.cpu]
    taken = [f for f in failures if _is_dump(f) or (speaks == "xen" and (_is_within(f, owner) or _is_block(f)))]
    failures = tuple(f for f in failures if f not in same_words)  # the same words, taken for a VMM's
    if not taken or len(others) > 1:
        return tuple(f for f in failures if f not in taken)
    dump = taken[0]
    adopted = replace(
        owner, cpu=owner.cpu or dump.cpu, code=owner.code or dump.code, control=owner.control or dump.control,
        arch=owner.arch or dump.arch, arch_from=owner.arch_from or dump.arch_from,
    )  # fmt: skip
    return tuple(adopted if f is owner else f for f in failures if f not in taken)


def _is_dump(failure: Failure) -> bool:
    shown = (failure.errno, failure.exit_reason, failure.emulation, failure.exit, failure.hardware_error)
    return failure.kind in {"other", "healthy"} and all(part is None for part in shown)


def _is_block(failure: Failure) -> bool:
    """A control block under no line of KVM's."""
    return failure.kind in {"other", "healthy"} and failure.control is not None and failure.errno is None


def _is_within(failure: Failure, owner: Failure) -> bool:
    """Read out of the lines between another hypervisor's first and last."""
    line, first, last = failure.source.line, owner.source.line, owner.source.last_line
    return (
        failure.control is not None
        and None not in {line, first}
        and (first or 0) - 1 <= (line or 0) <= (last or first or 0)
    )
