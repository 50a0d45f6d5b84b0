"""Whose doing it was: a distribution that follows its evidence, and says what it follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.diagnosis.answer import Mechanism, Origin
from kvmwhy.diagnosis.facts import gather
from kvmwhy.diagnosis.knowledge.priors import COUNTS, prior
from kvmwhy.diagnosis.knowledge.sign import ORIGINS
from kvmwhy.diagnosis.origin import Omit, origins
from kvmwhy.readers import read
from kvmwhy.record import Failure, Host, HostEvent, Setup

ENTRY_FAILED = b"KVM: entry failed, hardware error 0x7\n"


def weighed(failure: Failure, mechanism: str) -> dict[str, Origin]:
    found = origins(gather(failure), Mechanism(mechanism, "", "likely"))
    return {origin.id: origin for origin in found}


def entry(**host: Any) -> Failure:
    return msgspec.structs.replace(read(ENTRY_FAILED).failures[0], host=Host(**host))


def refused(call: str, errno: str | None = None, **setup: Any) -> Failure:
    return Failure(kind="setup-refused", arch="x86", errno=errno, setup=Setup(call=call, **setup))


def first(failure: Failure, mechanism: str) -> str:
    return next(iter(weighed(failure, mechanism)))


def test_without_evidence_the_prior_is_the_answer() -> None:
    """A bare suberror 2 tells nothing of its origin: the shares are those of its mechanism's prior, in order."""
    failure = read(b"KVM internal error. Suberror: 2\n").failures[0]
    expected = prior("simultaneous-events")
    found = weighed(failure, "simultaneous-events")
    assert list(found) == sorted(ORIGINS, key=lambda origin: -expected[origin])
    assert not any(origin.for_ or origin.against for origin in found.values())


def test_shares_sum_to_one_and_reports_are_the_counts() -> None:
    """The figure behind the words is the number of labelled reports, from the table."""
    found = weighed(entry(), "entry-refused-controls")
    assert sum(origin.share for origin in found.values()) == pytest.approx(1)
    assert {name: origin.reports for name, origin in found.items() if origin.reports} == COUNTS[
        "entry-refused-controls"
    ]


def test_a_named_outer_hypervisor_is_suspected_and_shown_as_proof() -> None:
    """VMware around the host: its share of a refused entry grows, and the name is in the proof."""
    bare = weighed(entry(), "entry-refused-controls")["outer-hypervisor"]
    named = weighed(entry(hypervisor="VMware"), "entry-refused-controls")["outer-hypervisor"]
    assert named.share > bare.share
    assert any("VMware" in proof.text for proof in named.for_)


def test_bare_metal_speaks_against_an_outer_hypervisor() -> None:
    """DMI of a board of its own: what speaks against is said, too."""
    metal = weighed(entry(dmi="Supermicro SYS-5019S-ML/X11SSH-F"), "entry-refused-controls")["outer-hypervisor"]
    assert metal.share < weighed(entry(), "entry-refused-controls")["outer-hypervisor"].share
    assert any("physical" in proof.text for proof in metal.against)


def test_kvms_own_warning_outweighs_the_prior() -> None:
    """A WARN in arch/x86/kvm beside a refused entry: the host's kernel, at the line of the warning."""
    event = HostEvent(kind="warning", fields={"path": "arch/x86/kvm/vmx/vmx.c", "line": 5217, "kvm": 1})
    found = weighed(entry(events=(event,), kernel="6.12.0-rc3"), "entry-refused-controls")
    assert next(iter(found)) == "host-kernel"


def test_a_warning_of_unclear_owner_decides_nothing_beside_a_guest() -> None:
    """A guest's console prints oopses as well."""
    event = HostEvent(kind="oops", fields={"owner": "unclear"})
    assert weighed(entry(events=(event,)), "entry-refused-controls") == weighed(entry(), "entry-refused-controls")


@pytest.mark.parametrize(
    ("failure", "origin"),
    [
        (refused("KVM_CREATE_VM", "EBUSY"), "host-setup"),
        (refused("open", "EACCES"), "host-setup"),
        (refused("module", detail="disabled-by-bios"), "host-setup"),
        (refused("KVM_SET_GSI_ROUTING", "EINVAL"), "vmm"),
        (refused("KVM_SET_USER_MEMORY_REGION", "EINVAL", fields={"size": 9 << 40}), "vm-configuration"),
        (refused("KVM_CREATE_VCPU", "EINVAL", detail="too-many-vcpus"), "vm-configuration"),
        (refused("KVM_ENABLE_CAP", "EINVAL", detail="disable-exits"), "outer-hypervisor"),
        (refused("KVM_SET_MSRS", msr=0x480, value=0), "vmm"),
        (refused("KVM_SET_MSRS", msr=0x4B564D02, value=0), "host-kernel"),
        (refused("SNP_LAUNCH_START", firmware_error=1), "confidential-stack"),
        (refused("SNP_LAUNCH_START", firmware_error=7), "vm-configuration"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.setup.call,
)
def test_a_refused_call_points_to_who_can_mend_it(failure: Failure, origin: str) -> None:
    """The kernel's source says which party each refusal is about."""
    assert first(failure, "setup-refused") == origin


def test_left_out_counts_are_not_used() -> None:
    """A run that scores itself on a report takes the report's own count away, from the prior and from the figure."""
    failure = entry()
    facts, mechanism = gather(failure), Mechanism("entry-refused-controls", "", "likely")
    whole = {origin.id: origin for origin in origins(facts, mechanism)}
    without = {o.id: o for o in origins(facts, mechanism, omit=Omit(counts={"outer-hypervisor": 1}))}
    assert without["outer-hypervisor"].reports == whole["outer-hypervisor"].reports - 1
    assert without["outer-hypervisor"].share < whole["outer-hypervisor"].share


def test_a_version_outside_a_bugs_range_takes_it_away() -> None:
    """A kernel with the fix: the known bug is no evidence any more."""
    smi = (
        b"KVM: entry failed, hardware error 0x80000021\nEAX=00000001 EBX=00000000 ECX=00000000 EDX=00000000\n"
        b"ESI=00000000 EDI=00000000 EBP=00000000 ESP=00000000\n"
        b"EIP=00008000 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=1 HLT=0\n"
        b"CS =c000 7ffc0000 ffffffff 00809300\n"
    )
    failure = read(smi).failures[0]
    shares = {
        kernel: weighed(msgspec.structs.replace(failure, host=Host(kernel=kernel)), "entry-refused-guest-state")
        for kernel in ("5.19.0", "6.8.0")
    }
    old, new = (shares[kernel]["host-kernel"] for kernel in ("5.19.0", "6.8.0"))
    assert old.share > new.share
    assert any("known bug" in proof.text for proof in old.for_)
    assert not any("known bug" in proof.text for proof in new.for_)


slugs = st.sampled_from(sorted(COUNTS))
events = st.builds(
    HostEvent,
    kind=st.sampled_from(["oops", "warning", "seamcall-failed", "vmread-failed", "msr-access-error"]),
    fields=st.dictionaries(
        st.sampled_from(["path", "status", "function", "trace", "kvm"]), st.text(max_size=20) | st.integers()
    ),
)
failures = st.builds(
    Failure,
    kind=st.sampled_from(["setup-refused", "host-trouble", "run-error", "entry-failure", "other", "unread"]),
    arch=st.none() | st.sampled_from(["x86", "arm64", "ppc64"]),
    errno=st.none() | st.sampled_from(["EFAULT", "EINVAL", "EIO", "EBUSY"]),
    hardware_error=st.none() | st.integers(0, (1 << 64) - 1),
    setup=st.none()
    | st.builds(
        Setup,
        call=st.text(max_size=12),
        msr=st.none() | st.integers(0, 1 << 32),
        detail=st.none() | st.text(max_size=9),
    ),
    host=st.builds(
        Host,
        kernel=st.none() | st.text(max_size=12),
        dmi=st.none() | st.text(max_size=12),
        devices=st.lists(st.text(max_size=9), max_size=2).map(tuple),
        events=st.lists(events, max_size=3).map(tuple),
    ),
)


@settings(deadline=None)  # the first one loads the tables
@given(failures, slugs)
def test_any_record_gets_every_origin_once(failure: Failure, mechanism: str) -> None:
    """No record breaks it; the shares sum to 1 and fall from the first to the last; each proof has words."""
    found = origins(gather(failure), Mechanism(mechanism, "", "possible"))
    assert sorted(origin.id for origin in found) == sorted(ORIGINS)
    assert sum(origin.share for origin in found) == pytest.approx(1)
    assert [o.share for o in found] == sorted((o.share for o in found), reverse=True)
    assert all(proof.text and "{}" not in proof.text for origin in found for proof in (*origin.for_, *origin.against))
