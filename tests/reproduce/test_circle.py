"""A guest fails; what a VMM would log of it is read; from that alone the same failure comes about again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from kvmwhy.machine import KvmMachine, Machine
from kvmwhy.reproduce import Outcome, Where, reproduce
from reproduce.circle import Failed, Guest, fail, failure_of
from reproduce.guests import HIGH, lab_guests, paged_guests

_MODEL_SAMPLE = 13  # every n-th of the lab's guests: the model is slower, and there are three of it
_KVM_SAMPLE = 5
# In the first, a stale translation gave the model another instruction than the one that trapped. In the second,
# the CPU read its operand, and KVM could not read the end of the instruction.
_NOT_CLOSED = ("/stale/", "/edge/flds-page-end-cut")


class Circle:
    """What came of a set of guests: how many failed, and those that did not fail again in the same way."""

    def __init__(self) -> None:
        self.failed: Counter[str] = Counter()
        self.open: list[str] = []

    def close(
        self, guests: Iterable[Guest], make: Callable[[], Machine], where: Where, *, seconds: float = 0.05
    ) -> None:
        for guest in guests:
            found = fail(guest, make, seconds=seconds)
            if found is None:
                continue
            self.failed[guest.name.split("/")[0]] += 1
            outcome = again(found, make, where)
            if not outcome.exact:
                self.open.append(f"{guest.name}: {outcome.answer}")


def again(found: Failed, make: Callable[[], Machine], where: Where) -> Outcome:
    with make() as machine:
        return reproduce(failure_of(found), machine, where=where)


def model(kernel: str, vendor: str) -> Callable[[], Machine]:
    pytest.importorskip("unicorn", reason="the model needs the package unicorn")
    from kvmwhy.machine.model import Model

    return lambda: Model(kernel, vendor)  # type: ignore[arg-type]


@pytest.mark.live
def test_on_this_host(kvm: type[KvmMachine]) -> None:
    """More than 200 guests of every mode and kind of access fail on /dev/kvm, and all of them do so again.

    The same record means every word of it: suberror, bytes, and what the vendor module wrote.
    """
    guests = [*list(lab_guests())[::_KVM_SAMPLE], *paged_guests()]
    circle = Circle()
    circle.close(guests, kvm, Where("/dev/kvm"))
    assert not circle.open
    # Which guests fail is the host's affair; what must not be is that hardly any does.
    enough = 200 if os.path.isdir("/sys/module/kvm_pvm") else 50
    assert circle.failed.total() >= enough, circle.failed
    assert {"long64", "prot32", "real16"} <= set(circle.failed)


@pytest.mark.parametrize(("kernel", "vendor"), [("6.1", "svm"), ("7.3", "vmx"), ("7.3", "svm")])
def test_on_the_model(kernel: str, vendor: str) -> None:
    """The same on modelled hardware, where events and page tables in holes fail too, and words are the vendor's.

    Two kinds are left out, whose words tell of another access than the one that KVM failed at.
    """
    make = model(kernel, vendor)
    guests = [g for g in lab_guests() if not any(name in g.name for name in _NOT_CLOSED)][::_MODEL_SAMPLE]
    circle = Circle()
    circle.close(guests, make, Where("the model", kernel, vendor))
    assert not circle.open
    assert circle.failed.total() >= 40


@pytest.mark.parametrize(("kernel", "vendor"), [("6.12", "vmx"), ("7.3", "svm")])
def test_paging_modes(kernel: str, vendor: str) -> None:
    """Legacy, PAE and 4-level page tables, at CPL 0 and 3, low and above 4 GiB: all 140 guests fail, and again."""
    make = model(kernel, vendor)
    guests = list(paged_guests())
    circle = Circle()
    circle.close(guests, make, Where("the model", kernel, vendor), seconds=5)  # none of them runs on: it costs nothing
    assert not circle.open
    assert circle.failed.total() == len(guests) == 140


def test_a_high_address_is_kept() -> None:
    """AMD reports where the operand lay; the guest that is made has its hole there, above 4 GiB."""
    make = model("6.1", "svm")
    guest = next(g for g in paged_guests() if g.name == f"pae/0/{HIGH:#x}/flds")
    found = fail(guest, make)
    assert found is not None
    outcome = again(found, make, Where("the model", "6.1", "svm"))
    assert outcome.plan is not None
    assert outcome.plan.holes[0].gpa == HIGH | 0x20


@pytest.mark.parametrize(("kernel", "exact"), [("5.10", True), ("6.1", True)])
def test_kernels_without_words_and_with(kernel: str, exact: bool) -> None:
    """5.10 reports no words; the operand is then found by the code window alone."""
    make = model(kernel, "vmx")
    names = {"long64/0/stock/data/flds", "prot32/0/stock/data/fstps", "real16/0/stock/data/flds"}
    for guest in (g for g in lab_guests() if g.name in names):
        found = fail(guest, make)
        assert found is not None
        assert bool(found.words) == (kernel != "5.10")
        assert again(found, make, Where("the model", kernel, "vmx")).exact is exact
