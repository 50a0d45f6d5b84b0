"""The same exit again and again, with nothing reported: KVM or the guest makes no progress."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from msgspec import Struct

from kvmwhy.abi.x86 import svm
from kvmwhy.record import Event

_LEAST: Final = 3  # equal exits in a row of a trace
_SHARE: Final = 0.8
_SVM: Final = 2


class Loop(Struct, frozen=True):
    """What repeats. ``event`` is the index of its last occurrence in the trace."""

    reason: int | str
    rip: int | None
    times: int
    event: int


class _Exit(NamedTuple):
    """Exits that are equal in this are the same. One instruction may touch page after page: that is progress."""

    reason: int | str
    rip: int | str | None
    address: int | str | None


def loop_of(trace: tuple[Event, ...]) -> Loop | None:
    """The exit that nearly all exits of this trace are; ``None`` if they differ, or are few."""
    if not trace:
        return None
    exits = [index for index, event in enumerate(trace) if event.name == "kvm_exit"]
    seen: Counter[_Exit] = Counter()
    last: dict[_Exit, int] = {}
    for index in exits:
        fields = trace[index].fields
        reason = fields.get("exit_reason", fields.get("reason"))
        if reason is None:
            continue
        exit_ = _Exit(reason, fields.get("guest_rip", fields.get("rip")), _address(trace, index))
        seen[exit_] += 1
        last[exit_] = index
    if not seen:
        return None
    exit_, count = seen.most_common(1)[0]
    if count < _LEAST or count < _SHARE * len(exits):
        return None
    return Loop(exit_.reason, exit_.rip if isinstance(exit_.rip, int) else None, count, last[exit_])


def _address(trace: tuple[Event, ...], index: int) -> int | str | None:
    """What the exit was about: EXITINFO2 of a nested page fault, or the fault that is traced behind it."""
    fields = trace[index].fields
    if fields.get("isa") == _SVM and fields.get("exit_reason") == svm.NPF:
        return fields.get("info2")
    for event in trace[index + 1 : index + 3]:
        if event.name == "kvm_exit":
            break
        if event.name == "kvm_page_fault":
            return event.fields.get("fault_address")
    return None
