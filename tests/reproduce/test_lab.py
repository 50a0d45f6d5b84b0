"""A report reproduced on a real kernel under emulation, the vendor's words compared."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from kvmwhy.cli.reproduce import in_lab
from kvmwhy.machine import NoMemoryAtError, Regs, Sregs, replace
from kvmwhy.readers import read
from kvmwhy.record import Failure
from kvmwhy.reproduce import Ended, Plan, Where, compare, plan
from kvmwhy.reproduce.lab import ended_of, to_case
from reproduce.circle import log_of
from reproduce.guests import lab_guests

if TYPE_CHECKING:
    from lab.cases import Case
    from lab.outcome import Outcome

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "avx-move-on-mmio.log"


def planned() -> Plan:
    (found,) = read(EXAMPLE.read_bytes()).failures
    made = plan(found)
    assert isinstance(made, Plan)
    return made


def test_a_plan_is_a_case() -> None:
    """Packed and unpacked by the lab's own code, nothing is lost; and it has as many slots as the lab takes."""
    from lab.cases import pack, unpack

    made = planned()
    case = unpack(pack(to_case(made)))
    assert case.regs == made.regs
    assert [(m.gpa, m.size, m.readonly) for m in case.memory] == [(m.gpa, m.size, m.readonly) for m in made.memory]
    assert [(c.gpa, c.data) for c in case.chunks] == [(c.gpa, c.data) for c in made.contents]


def test_an_outcome_is_an_end() -> None:
    """What the lab's program prints of an internal error, as `build.run` would have said it."""
    from lab.outcome import Exit, Outcome, State

    made = planned()
    payload = struct.pack("<IIQQ", 1, 2, 5, 7)
    state = State(hex(made.rip), "0x2", "0x0", "0x0", "0x0", "0x0", "0x0", "0x8", "0x0")
    outcome = Outcome("x", (Exit(6, gpa="0xd0000000", size=8), Exit(17, payload=payload.hex())), state=state)
    ended = ended_of(made, outcome)
    assert ended == Ended(
        "internal-error",
        ("MMIO read of 8 at 0xd0000000", "exit 17"),
        suberror=1,
        words=(5, 7),
        rip=made.rip,
        touched=(0xD000_0000,),
    )


def kernel_of(bench: str, series: str) -> tuple[Path, object]:
    """The lab's kernel, or a skip that names what is missing."""
    from lab import benches, kernels

    if "KVMWHY_LAB" not in os.environ:
        pytest.skip("KVMWHY_LAB names no directory with fetched kernels")
    if lacks := benches.missing(bench):
        pytest.skip(f"not installed: {', '.join(lacks)}")
    work = Path(os.environ["KVMWHY_LAB"])
    try:
        (kernel,) = kernels.choose(work, [series])
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return work, kernel


class Recorded(NamedTuple):
    """A case's guest as it was when a real kernel gave up on it: enough of a machine and a vCPU to print a log."""

    case: Case
    outcome: Outcome

    def read(self, gpa: int, size: int) -> bytes:
        if not any(m.gpa <= gpa and gpa + size <= m.gpa + m.size for m in self.case.memory):
            raise NoMemoryAtError(gpa, size)
        out = bytearray(size)
        for chunk in self.case.chunks:
            for n in range(max(gpa, chunk.gpa), min(gpa + size, chunk.gpa + len(chunk.data))):
                out[n - gpa] = chunk.data[n - chunk.gpa]
        return bytes(out)

    def get_regs(self) -> Regs:
        state = self.outcome.state
        assert state is not None
        names = ("rip", "rflags", "rsp", "rax", "rcx", "rsi", "rdi")
        return replace(self.case.regs, **{name: int(getattr(state, name), 16) for name in names})

    def get_sregs(self) -> Sregs:
        assert self.outcome.state is not None
        return replace(self.case.sregs, cr2=int(self.outcome.state.cr2, 16))


def recorded(results: Path, step: int) -> Iterator[tuple[str, Failure]]:
    """Failures of real kernels out of the lab's results, as logs of them would show them."""
    from lab.catalogue import catalogue
    from lab.outcome import load

    _, outcomes = load(results)
    failed = [c for c in catalogue() if c.id in outcomes and (end := outcomes[c.id].last) and end.words]
    for case in failed[::step]:
        if "/stale/" in case.id or "/again/" in case.id:
            continue
        outcome = outcomes[case.id]
        assert outcome.last is not None
        suberror, *words = outcome.last.words
        guest: Any = Recorded(case, outcome)
        log = log_of(guest, guest, suberror, tuple(words))
        (failure,) = read(log.encode()).failures
        yield case.id, failure


def agreement(bench: str, series: str, step: int) -> tuple[int, list[str], list[str]]:
    """(how many, not the same failure, not the same words), for failures of that kernel run on it again in one boot."""
    from lab import boot
    from lab.outcome import Outcome

    work, kernel = kernel_of(bench, series)
    (results,) = (ROOT / "lab" / "results").glob(f"{bench}-{series}.*-amd64.jsonl*")
    plans = {}
    for number, (name, failure) in enumerate(recorded(results, step)):
        made = plan(failure)
        assert isinstance(made, Plan), name
        plans[f"{number}"] = (name, made)
    cases = [to_case(made, number) for number, (_, made) in plans.items()]
    output = boot.boot(bench, kernel, cases, work, limit=900.0)  # type: ignore[arg-type]
    other, words = [], []
    for line in output.data.splitlines():
        outcome = msgspec.json.decode(line, type=Outcome)
        name, made = plans[outcome.id]
        verdict = compare(made, ended_of(made, outcome), Where(series, series, bench))
        if verdict.status != "reproduced":
            other.append(f"{name}: {verdict.answer}")
        elif not verdict.exact:
            words.append(f"{name}: {[(r.what, r.reported, r.here) for r in verdict.rows if r.same is False]}")
    return len(plans), other, words


@pytest.mark.lab
def test_the_words_of_kvm_amd() -> None:
    """The log came from kvm-amd under QEMU's TCG; the same kernel series there writes the same eight words."""
    work, kernel = kernel_of("svm", "6.1")
    outcome = in_lab(planned(), "svm", kernel, work)
    assert outcome.status == "reproduced"
    assert outcome.exact


@pytest.mark.lab
@pytest.mark.parametrize("series", ["6.1", "7.3"])
def test_failures_of_kvm_amd_fail_again(series: str) -> None:
    """What a real kvm-amd reported of a sample of the lab's cases comes about again there, from a log of it alone."""
    total, other, words = agreement("svm", series, 5)
    assert total >= 100
    assert len(other) <= total // 20, other
    assert len(words) <= total // 20, words


def test_the_catalogue_is_here() -> None:
    """The circle's guests are the lab's: all of them are found."""
    assert sum(1 for _ in lab_guests()) > 1900
