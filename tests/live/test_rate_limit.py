"""The same failure again and again: told at once, then counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.live.rate_limit import Repeats, key
from kvmwhy.record import Emulation, Event, Failure, Source


def failure(number: int) -> Failure:
    return Failure(kind="internal-error", emulation=Emulation(rip=number, cs_base=0, insn=b"\xd9\x03"))


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3)), max_size=200))
def test_counts_add_up(steps: list[tuple[int, float]]) -> None:
    """Whatever fails whenever: the counts of all records are the failures that there were, of each kind."""
    repeats, now = Repeats(), 0.0
    out: list[Failure] = []
    for number, pause in steps:
        now += pause
        out += [one.failure for one in repeats.due(now)]
        one = failure(number)
        same = key(one, 1)
        if not repeats.again(same, None, now, (1, now)):
            out += [one, *(other.failure for other in repeats.told(same, one, now))]
    out += [one.failure for one in repeats.rest()]
    for number in range(6):
        told = sum(f.source.count for f in out if f.emulation and f.emulation.rip == number)
        assert told == sum(step[0] == number for step in steps)


def test_the_first_is_told_at_once_and_the_next_soon() -> None:
    """A burst makes two records: the first failure, and after a moment the number of the others."""
    repeats, one = Repeats(), failure(1)
    same = key(one, 1)
    assert not repeats.again(same, None, 0.0, (1, 0.0))
    repeats.told(same, one, 0.0)
    assert all(repeats.again(same, f"t{n}", 0.0, (1, float(n))) for n in range(9))
    due = repeats.next_due()
    assert due is not None
    assert repeats.due(due - 0.001) == []
    (rest,) = repeats.due(due)
    assert (rest.failure.source.count, rest.failure.source.last_time) == (9, "t8")
    assert rest.marks == tuple((1, float(n)) for n in range(9))


def test_an_endless_loop_makes_few_records() -> None:
    """Ten failures a second for an hour are some hundred records, and none is forgotten."""
    repeats, one, out, failures = Repeats(), failure(1), 0, 0
    told = 0
    for tick in range(36_000):
        now = tick / 10
        for due in repeats.due(now):
            out, told = out + 1, told + due.failure.source.count
        failures += 1
        if not repeats.again(b"same", None, now, (1, now)):
            repeats.told(b"same", one, now)
            out, told = out + 1, told + 1
    told += sum(one.failure.source.count for one in repeats.rest())
    assert told == failures
    assert out < 500


def test_what_makes_two_failures_the_same() -> None:
    """When it was and what came before do not count; the thread, the vCPU and the instruction do."""
    one = failure(1)
    later = Failure(
        kind=one.kind, emulation=one.emulation, source=Source(time="later"), trace=(Event(name="kvm_exit"),)
    )
    assert key(one, 1) == key(later, 1)
    assert key(one, 1) != key(one, 2)
    assert key(one, 1) != key(failure(2), 1)


def test_memory_is_bounded() -> None:
    """Ever new failures push out the oldest, whose count is told then."""
    repeats, told = Repeats(), 0
    for number in range(10_000):
        one = failure(number)
        same = key(one, 1)
        assert not repeats.again(same, None, 0.0, (1, 0.0))
        told += 1 + sum(one.failure.source.count for one in repeats.told(same, one, 0.0))
        repeats.again(same, None, 0.0, (1, 0.0))
    assert told + sum(one.failure.source.count for one in repeats.rest()) == 20_000
