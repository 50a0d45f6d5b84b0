"""Real guests on real KVM: what is asserted here must hold on any host that can run them."""

import re
import struct
from typing import NamedTuple

import pytest

from guests import boot, qemu
from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from needs import missing

pytestmark = pytest.mark.live

SHUTDOWN = 8
INTERNAL_ERROR = 17
EMULATION = 1
DELIVERY_EV = 3
HEAD = "KVM internal error."


class Ran(NamedTuple):
    guest: boot.Guest
    run: qemu.GuestRun

    @property
    def page(self) -> bytes:
        assert self.run.page is not None, self.run.log
        return self.run.page

    @property
    def kvm_gave_up(self) -> bool:
        """Whether it did is up to the host's KVM: see Guest.endings."""
        return self.run.status in {"internal-error", "repeating"}


@pytest.fixture(scope="module", autouse=True)
def _live() -> None:
    reason = qemu.unavailable()
    if reason is None:
        return
    missing("live", reason)


@pytest.fixture(scope="module", params=list(boot.GUESTS))
def ran(request: pytest.FixtureRequest) -> Ran:
    guest = boot.GUESTS[request.param]
    return Ran(guest, qemu.run_guest(guest.name, guest.image, memory=guest.memory))


def test_guest_ends_as_built(ran: Ran) -> None:
    """Every guest reaches an end it was built for, and before the time limit unless it may loop."""
    assert ran.run.status in ran.guest.endings, ran.run.log
    assert (ran.run.seconds < qemu.TIME_LIMIT) == (ran.run.status != "running")


def test_exit_reason_agrees_with_the_end(ran: Ran) -> None:
    """The page's exit reason tells an internal error from a shutdown, whatever is left in its union."""
    assert (ran.run.exit_reason == INTERNAL_ERROR) == ran.kvm_gave_up
    assert (ran.run.exit_reason == SHUTDOWN) == (ran.run.status == "shutdown")
    assert (HEAD in ran.run.log) == ran.kvm_gave_up


def test_log_and_page_carry_the_same_words(ran: Ran) -> None:
    """QEMU prints the page's suberror and words, no more and no fewer."""
    if not ran.kvm_gave_up:
        return
    suberror, ndata = struct.unpack_from("<II", ran.page, 32)
    assert ndata <= 16
    dump = ran.run.log.split(HEAD)[-1]
    assert dump.startswith(f" Suberror: {suberror}\n")
    words = re.findall(r"^extra data\[\d+\]: 0x([0-9a-f]{16})$", dump, re.MULTILINE)
    assert [int(word, 16) for word in words] == list(struct.unpack_from(f"<{ndata}Q", ran.page, 40))


def test_suberror(ran: Ran) -> None:
    """Emulation fails for data and code; the delivery of an event may have a suberror of its own."""
    if not ran.kvm_gave_up:
        return
    (suberror,) = struct.unpack_from("<I", ran.page, 32)
    allowed = {EMULATION, DELIVERY_EV} if ran.guest.access == "event-delivery" else {EMULATION}
    assert suberror in allowed


def test_page_holds_the_failing_bytes(ran: Ran) -> None:
    """With bytes, they begin with the failing instruction; without, the fetch itself failed."""
    suberror, ndata, flags, size = struct.unpack_from("<IIQB", ran.page, 32)
    if not ran.kvm_gave_up or suberror != EMULATION or ndata == 0:  # before 5.16 there are no words
        return
    if ran.guest.access == "fetch":
        assert (flags, ndata) == (0, 6)
    else:
        assert (flags, ndata) == (1, 8)
        assert len(ran.guest.insn) <= size <= 15
        assert ran.page[49:64].startswith(ran.guest.insn)


def test_dump_shows_where(ran: Ran) -> None:
    """The register dump's RIP on top of its CS base is the address the guest was built to fail at."""
    if not ran.kvm_gave_up:
        return
    ip = re.search(r"^[ER]IP=([0-9a-f]+) .* CPL=(\d)", ran.run.log, re.MULTILINE)
    cs = re.search(r"^CS =[0-9a-f]{4} ([0-9a-f]+)", ran.run.log, re.MULTILINE)
    assert ip is not None
    assert cs is not None
    assert int(ip[1], 16) + int(cs[1], 16) == ran.guest.rip
    assert int(ip[2]) == ran.guest.cpl


def test_the_explanation_fits_the_guest(ran: Ran) -> None:
    """What QEMU has just printed is explained as what the guest was built to do: mode, instruction, place and cause."""
    if not ran.kvm_gave_up:
        return
    failures = read(ran.run.log.encode()).failures
    assert failures
    for failure in failures:
        diagnosis = diagnose(failure)
        facts, best = diagnosis.facts, diagnosis.findings[0]
        assert facts.mode is not None
        assert facts.mode.name == ran.guest.mode
        assert facts.linear_rip == ran.guest.rip
        if ran.guest.access == "fetch":
            assert best.cause.id == "fetch-non-ram"
        elif ran.guest.access in {"read", "write"} and ran.guest.insn:
            assert facts.instruction is not None
            assert facts.instruction.bytes == ran.guest.insn
            assert best.cause.family == "emulator-gap"
        assert best.confidence in {"certain", "likely"}
        (of_page,) = read(ran.page).failures
        assert (of_page.suberror, of_page.data) == (failure.suberror, failure.data)
