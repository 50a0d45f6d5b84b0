"""Known bugs: what versions do to a match, what a match may claim, and what it must not look at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy import testing
from kvmwhy.diagnosis.cause import Confidence
from kvmwhy.diagnosis.facts import gather
from kvmwhy.diagnosis.knowledge import all_bugs, known
from kvmwhy.diagnosis.knowledge.kernel_version import Affected, Within, kernel_within, qemu_within, release_of
from kvmwhy.readers import read
from kvmwhy.record import Code, Cpu, Failure, Host, HostEvent, Kind, Segment

CODE64 = Segment(0x10, 0, 0xFFFFFFFF, 0xA09B00)
SMI = Cpu(
    registers={"rip": 0x8000, "rflags": 2, "cr0": 0x10, "cr3": 0, "cr4": 0, "efer": 0},
    segments={"cs": Segment(0xC000, 0x7FFC0000, 0xFFFFFFFF, 0x809300)},
    smm=True,
)
SIX_TWO = Affected(fixed="6.2")
WINDOW = Affected(since="6.12", fixed="6.15", stable=("6.14.7",))
COMPLETE = Affected(since="5.16", fixed="6.13", stable=("6.6.70",), only=True)


def entry(number: int = 0x80000021, cpu: Cpu | None = SMI, **host: Any) -> Failure:
    failure = read(testing.entry_failure_page(number)).failures[0]
    return msgspec.structs.replace(failure, cpu=cpu, host=Host(**host))


def confidence(failure: Failure, bug: str) -> Confidence | None:
    found = {finding.cause.id: finding.confidence for finding in known(gather(failure))}
    return found.get(bug)


# -- releases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "patch", "vendor"),
    [
        ("5.15.39-1-pve", 39, False),
        ("6.17.9", 9, False),
        ("6.18.0-rc3", 0, False),
        ("5.6.19-300.fc32.x86_64", 19, False),
        ("6.1.0-18-amd64", None, False),
        ("5.15.0-73-generic", None, False),
        ("5.4.0-1048-azure", None, False),
        ("4.18.0-372.el8.x86_64", 0, True),
        ("5.14.0-427.13.1.el9_4.x86_64", 0, True),
        ("5.3.18-150300.59.93-default", 18, True),
        ("4.19.90-2112.8.0.oe2203.x86_64", 90, True),
        ("5.13.12-1.el7.elrepo.x86_64", 12, False),
    ],
)
def test_whose_kernel_a_release_names(name: str, patch: int | None, vendor: bool) -> None:
    """Distributions' own numbers: who keeps stable's point release, who hides it, and who backports at will."""
    release = release_of(name)
    assert release is not None
    assert (release.patch, release.vendor) == (patch, vendor)


@pytest.mark.parametrize(
    ("name", "affected", "within"),
    [
        ("5.19.0", SIX_TWO, "yes"),
        ("6.2.0", SIX_TWO, "no"),
        ("7.1.2", SIX_TWO, "no"),
        ("5.15.39-1-pve", SIX_TWO, "maybe"),  # a stable kernel may have taken the fix over
        ("6.2.0-rc1", SIX_TWO, "maybe"),
        ("5.14.0-427.el9", SIX_TWO, "maybe"),  # RHEL backports: its number tells nothing
        ("6.12.0-55.el10", SIX_TWO, "no"),  # … except that it is newer
        (None, SIX_TWO, "maybe"),
        ("linux", SIX_TWO, "maybe"),
        ("6.11.5", WINDOW, "no"),
        ("6.12.0", WINDOW, "yes"),
        ("6.14.6", WINDOW, "yes"),
        ("6.14.7", WINDOW, "no"),
        ("6.14.0-15-generic", WINDOW, "maybe"),
        ("6.13.4", WINDOW, "maybe"),
        ("6.15.0", WINDOW, "no"),
        ("5.15.100", COMPLETE, "no"),
        ("6.1.50", COMPLETE, "yes"),
        ("6.6.69", COMPLETE, "yes"),
        ("6.6.70", COMPLETE, "no"),
        ("6.20.1", Affected(since="6.18"), "yes"),
        ("6.17.1", Affected(since="6.18"), "no"),
        ("99999999999999999999.1", SIX_TWO, "maybe"),
        ("6.99999999999", SIX_TWO, "maybe"),
    ],
)
def test_which_kernels_have_a_bug(name: str | None, affected: Affected, within: Within) -> None:
    """Mainline decides; a stable series by its own point release; where the name cannot tell, nobody guesses."""
    assert kernel_within(name, affected) == within


@pytest.mark.parametrize(
    ("name", "within"), [("5.0.0", "no"), ("5.0.91", "yes"), ("5.0.92", "no"), ("8.2", "no"), (None, "maybe")]
)
def test_a_release_candidate_of_qemu_counts_as_the_number_it_gives(name: str | None, within: Within) -> None:
    """QEMU 5.1-rc1 calls itself 5.0.91."""
    assert qemu_within(name, Affected(since="5.0.50", fixed="5.0.92")) == within


@given(st.text(max_size=40), st.sampled_from([SIX_TWO, WINDOW, COMPLETE]))
def test_any_text_is_a_release_or_none(name: str, affected: Affected) -> None:
    """Versions come from logs: no text breaks the comparison."""
    assert kernel_within(name, affected) in {"yes", "no", "maybe"}
    assert qemu_within(name, affected) in {"yes", "no", "maybe"}


def test_the_ranges_of_the_entries_are_ranges() -> None:
    """Each range begins before it ends, and its point releases belong to series inside it."""

    def triple(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split("."))

    ranges = [bug.versions for bug in all_bugs() if bug.versions]
    assert ranges
    for one in ranges:
        assert one.since or one.fixed
        if one.since and one.fixed:
            assert triple(one.since) < triple(one.fixed)
        for version in one.stable:
            assert one.fixed
            assert triple(version)[:2] < triple(one.fixed)[:2]
            assert len(triple(version)) == 3


# -- what a match may claim -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [(None, "possible"), ("5.15.39-1-pve", "possible"), ("5.19.0", "likely"), ("6.8.12-1-pve", None), ("6.2.0", None)],
)
def test_the_version_makes_a_match_likely_or_drops_it(kernel: str | None, expected: Confidence | None) -> None:
    """By shape a lead, by an affected version likely, by a version outside the range nothing."""
    assert confidence(entry(kernel=kernel), "bug-smi-in-sti-shadow") == expected


def test_the_version_is_said_with_the_range() -> None:
    """A person reads which version was compared with which range; without one, what is missing."""
    (sure,) = known(gather(entry(kernel="5.19.0")))
    assert "the host's kernel 5.19.0 is among the affected ones (before 6.2)" in sure.for_
    (unsure,) = known(gather(entry()))
    assert "the host's kernel's version is not shown; affected: before 6.2" not in sure.for_
    assert any("affected: before 6.2" in text for text in unsure.against)


def test_a_shape_that_needs_its_version_is_silent_without() -> None:
    """Where the shape alone says too little, an unknown version is no match."""
    nothing = Cpu(registers=dict.fromkeys(("rip", "rax", "cr0", "rflags"), 0), segments={"cs": Segment(0, 0, 0, 0)})
    assert confidence(entry(0xFFFFFFFF, nothing), "bug-snp-vmsa-gone") is None
    assert confidence(entry(0xFFFFFFFF, nothing, kernel="6.12.0"), "bug-snp-vmsa-gone") == "likely"
    assert confidence(entry(0xFFFFFFFF, nothing, kernel="6.16.0"), "bug-snp-vmsa-gone") is None


def test_a_contradicted_hint_drops_a_match_and_a_missing_one_is_named() -> None:
    """RCX that is not Hyper-V's EOI register speaks against the erratum; RCX that is not shown is only missing."""
    data = testing.delivery_failure_page(0x8000002F, 0x20)

    def with_rcx(**registers: int) -> Failure:
        cpu = Cpu(registers={"rip": 0xFFFFF8000271722C, **registers}, segments={"cs": CODE64})
        return msgspec.structs.replace(read(data).failures[0], cpu=cpu)

    bug = "bug-spr-apicv-vp-assist"
    assert confidence(with_rcx(rcx=0x40000070), bug) == "possible"
    assert confidence(with_rcx(rcx=0x40000071), bug) is None
    (unsure,) = known(gather(with_rcx()))
    assert any(text.startswith("not shown: whether rcx") for text in unsure.against)


def test_the_host_counts_by_kvmwhys_own_words_only() -> None:
    """Names of hosts, users and files are in the log, not in the evidence: they match nothing."""
    loud = {"writer": "vmware-esx-hyperv[1] on vfio-dax-evmcs", "path": "/vmware/azure/kvm.log"}
    failure = entry(7, None)
    loud_one = msgspec.structs.replace(failure, source=msgspec.structs.replace(failure.source, **loud))
    assert known(gather(loud_one)) == ()
    assert confidence(entry(7, None, hypervisor="VMware"), "bug-vmware-unrestricted-guest") == "possible"


def test_a_bug_can_be_left_out() -> None:
    """A run that scores itself leaves out what only the report under test supports."""
    cpu = Cpu(registers={"rip": 0xFFFFF8000271722C, "rcx": 0x40000070}, segments={"cs": CODE64})
    failure = read(testing.delivery_failure_page(0x8000002F, 0x20)).failures[0]
    facts = gather(msgspec.structs.replace(failure, cpu=cpu))
    assert [f.cause.id for f in known(facts)] == ["bug-spr-apicv-vp-assist"]
    assert known(facts, omit=frozenset({"bug-spr-apicv-vp-assist"})) == ()


KINDS: tuple[Kind, ...] = ("internal-error", "entry-failure", "run-error", "shutdown", "exception-exit", "other")
words = st.integers(0, (1 << 64) - 1)
segments = st.builds(Segment, st.integers(0, 0xFFFF), words, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFF))
cpus = st.builds(
    Cpu,
    registers=st.dictionaries(st.sampled_from(["rip", "rcx", "rdx", "cr0", "cr4", "efer", "rflags"]), words),
    segments=st.dictionaries(st.sampled_from(["cs", "ss", "ds", "es", "idt"]), segments),
    smm=st.none() | st.booleans(),
    cpl=st.none() | st.integers(0, 3),
)
failures = st.builds(
    Failure,
    kind=st.sampled_from(KINDS),
    suberror=st.none() | st.integers(0, 6),
    data=st.lists(st.sampled_from([0, 1, 0x30, 0x31, 0x20, 76, 0x80000B0E, 0x400]) | words, max_size=16).map(tuple),
    hardware_error=st.none() | st.sampled_from([0, 5, 7, 8, 0x80000021, 0xFFFFFFFF]) | words,
    errno=st.none() | st.sampled_from(["EFAULT", "EINVAL", "EIO", "ENOMEM"]),
    exception=st.none() | st.integers(0, 40),
    exit_reason=st.none() | st.integers(0, 64),
    cpu=st.none() | cpus,
    code=st.none() | st.builds(Code, st.lists(st.none() | st.integers(0, 255), max_size=20).map(tuple), st.just(0)),
    host=st.builds(
        Host,
        kernel=st.none() | st.sampled_from(["5.15.0", "6.12.3", "4.18.0-1.el8"]) | st.text(max_size=20),
        qemu=st.none() | st.text(max_size=10),
        hypervisor=st.none() | st.sampled_from(["VMware", "KVM"]) | st.text(max_size=10),
        events=st.lists(st.builds(HostEvent, kind=st.sampled_from(["vfio-bar-fault", "oops"])), max_size=3).map(tuple),
    ),
)


@settings(deadline=None)  # the first one loads the decoder and the tables
@given(failures)
def test_no_match_is_ever_certain_and_no_record_breaks_it(failure: Failure) -> None:
    """A look-alike proves nothing: any record at all gives likely at most, and each finding says what speaks for it."""
    for finding in known(gather(failure)):
        assert finding.confidence in {"likely", "possible"}
        assert finding.for_
        assert finding.answer.endswith(".")
