"""How a watch makes failures of what it reads, without a kernel: threads without a process, events made to order."""

from __future__ import annotations

import time
from typing import Any

import pytest

from kvmwhy.live import watch as watching
from kvmwhy.live.page_cache import ENDED, SEVERAL, WENT_ON, Recall, _fits, _merged
from kvmwhy.live.rate_limit import Repeats
from kvmwhy.live.spool import Page
from kvmwhy.live.trace_history import History, NoHistory
from kvmwhy.live.vcpus import failure_of
from kvmwhy.live.watch import Watch
from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.record import Emulation, Failure, Host, Source
from kvmwhy.testing import FAILURES

NOBODY = 1 << 30  # above any thread's number
UD = 6
FLDS = {"rip": 0x1000, "csbase": 0, "len": 2, "insn": "d9 07", "flags": 9, "failed": 1}


class Plain:
    """Events whose raw form is their fields."""

    def decode(self, raw: dict[str, int | str], /) -> dict[str, int | str]:
        return dict(raw)

    def number(self, raw: dict[str, int | str], name: str, /) -> int | None:
        value = raw.get(name)
        return value if isinstance(value, int) else None


def event(name: str, at: float, **fields: Any) -> TraceEvent:
    return TraceEvent(name, NOBODY, fields, Plain(), time=at)


class Past:
    """A flight recorder with these events in it."""

    def __init__(self, *events: TraceEvent) -> None:
        self.events = events

    def fetch(self) -> None:
        pass

    def before(self, thread: int, until: float, limit: int = 64) -> list[TraceEvent]:  # noqa: ARG002 -- a History
        return [e for e in self.events if (e.time or 0) <= until]


def made(past: History) -> Watch:
    watch = Watch.__new__(Watch)
    watch._recall, watch._repeats, watch._open = Recall(Host(kernel="6.18")), Repeats(), {}
    watch._flight = past
    watch._spool, watch._left, watch._taken_up, watch._untold = None, None, False, 0
    return watch


def test_a_silent_failure_is_found() -> None:
    """A failed emulation, #UD injected, and no return to userspace: no VMM heard of it, and the record says so."""
    now = time.monotonic()
    past = Past(event("kvm_inj_exception", now - 0.2, exception=UD), event("kvm_exit", now - 0.1, exit_reason=1))
    watch = made(past)
    begin = [event("kvm_emulate_insn", now - 0.3, **FLDS)]
    assert watch._tell(NOBODY, begin, now) == []  # what followed is not known yet
    (seen,) = watch._tell(NOBODY, watch._open[NOBODY].events, now)
    assert seen.failure.silent
    assert seen.failure.kind == "other"
    assert seen.failure.emulation is not None
    assert seen.failure.emulation.insn == b"\xd9\x07"
    assert watch._open == {}


def test_without_a_history_the_injected_exception_is_among_the_failures() -> None:
    """--history 0: failed emulation and #UD come together, and nothing follows: silent, once."""
    now = time.monotonic()
    watch = made(NoHistory())
    events = [event("kvm_emulate_insn", now - 0.3, **FLDS), event("kvm_inj_exception", now - 0.2, exception=UD)]
    assert watch._tell(NOBODY, events, now) == []
    (seen,) = watch._tell(NOBODY, watch._open[NOBODY].events, now + 9)
    assert (seen.failure.silent, seen.failure.kind) == (True, "other")
    assert watch._open == {}


@pytest.mark.parametrize("insn", ["0f 0b", "0f b9 c0", "0f ff c0"])
def test_an_instruction_that_asks_for_ud_is_no_failure(insn: str) -> None:
    """UD2, UD1 and UD0 are there to raise #UD; that KVM stops for one is a failure all the same."""
    now = time.monotonic()
    asked = {**FLDS, "insn": insn}
    past = Past(event("kvm_inj_exception", now - 0.2, exception=UD), event("kvm_exit", now - 0.1, exit_reason=1))
    watch = made(past)
    watch._tell(NOBODY, [event("kvm_emulate_insn", now - 0.3, **asked)], now)
    assert watch._tell(NOBODY, watch._open[NOBODY].events, now) == []
    stopped = [event("kvm_emulate_insn", now, **asked), event("kvm_userspace_exit", now + 0.1, reason=17, errno=0)]
    (seen,) = made(Past())._tell(NOBODY, stopped, now + 0.2)
    assert seen.failure.kind == "internal-error"


def test_a_failure_without_an_end_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies between the failure and its end still leaves a record, once."""
    monkeypatch.setattr(watching, "PATIENCE", 0.0)
    watch = made(Past())
    now = time.monotonic()
    (seen,) = watch._tell(NOBODY, [event("kvm_emulate_insn", now - 1, **FLDS)], now)
    assert seen.failure.damage
    assert watch._open == {}


def test_what_was_before_comes_with_the_failure() -> None:
    """The exit that the failure came of, and the MMIO before it, in their order; nothing of later."""
    now = time.monotonic()
    exit_ = event("kvm_exit", now - 0.3, exit_reason=48, isa=1, info1=0x181, info2=0, intr_info=0, error_code=0)
    past = Past(event("kvm_mmio", now - 0.4, gpa=0xD0000000, type=1), exit_, event("kvm_exit", now + 9, exit_reason=0))
    events = [event("kvm_emulate_insn", now - 0.2, **FLDS), event("kvm_userspace_exit", now - 0.1, reason=17, errno=0)]
    (seen,) = made(past)._tell(NOBODY, events, now)
    assert [e.name for e in seen.failure.trace] == ["kvm_mmio", "kvm_exit", "kvm_emulate_insn", "kvm_userspace_exit"]
    assert seen.failure.exit is not None
    assert (seen.failure.exit.reason, seen.failure.exit.info1) == (48, 0x181)
    assert seen.when == now - 0.1
    assert ENDED in seen.failure.damage
    assert seen.failure.host.kernel == "6.18"


def page(name: str, vcpu: int = 0) -> Failure:
    return failure_of(FAILURES[name], vmm="vmm", pid=1, vcpu=vcpu, host=Host())


def told(insn: bytes = b"\xd9\x07", **more: Any) -> Failure:
    emulation = Emulation(rip=0x1000, cs_base=0, insn=insn)
    return Failure(kind="internal-error", suberror=1, exit_reason=17, emulation=emulation, **more)


def test_which_page_fits() -> None:
    """Another exit, another suberror or another instruction is another failure's page."""
    assert _fits(page("emulation-failure"), told())
    assert _fits(page("emulation-failure-5.10"), told())  # a kernel that says nothing contradicts nothing
    assert not _fits(page("emulation-failure"), told(b"\x0f\xae"))
    assert not _fits(page("unexpected-exit"), told())
    assert not _fits(page("shutdown"), told())


def test_pages_and_traces_are_put_together() -> None:
    """One page gives KVM's words; two that differ give none, and no page is said to be gone."""
    one = _merged(told(), [page("emulation-failure", 3)])
    assert (one.data, one.ndata, one.source.vcpu, one.damage) == (page("emulation-failure").data, 8, 3, ())
    assert one.emulation == told().emulation
    several = _merged(told(), [page("emulation-failure", 0), page("emulation-failure-svm", 1)])
    assert (several.data, several.damage) == ((), (SEVERAL,))
    same = _merged(told(source=Source()), [page("emulation-failure", 0), page("emulation-failure", 1)])
    assert (same.data, same.source.vcpu) == (page("emulation-failure").data, None)
    assert _merged(told(), []).damage == (WENT_ON,)


def test_an_event_that_two_instances_stamped_counts_once() -> None:
    """One stamp just before the edge between a killed watch and the next, one just behind: one event; else two."""
    edge = 1000.0

    def decode(raw: bytes) -> list[TraceEvent]:
        return [event("kvm_userspace_exit", float(raw), reason=17, errno=0)]

    for before, behind, count in ((-2e-7, 3e-7, 1), (-6e-6, 5e-6, 2), (-1e-6, 2.5e-6, 2)):
        for first in (0, 1):
            watch = made(NoHistory())
            watch._at_edges = {}
            pages = (Page(b"%.9f" % (edge + before), until=edge), Page(b"%.9f" % (edge + behind), since=edge))
            ordered = pages if first == 0 else pages[::-1]
            assert sum(len(watch._counting(page, decode)) for page in ordered) == count
