"""Advice fits the facts, and what is asked for is not on the page."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.diagnosis.knowledge.advice import ENTRIES
from kvmwhy.diagnosis.knowledge.sign import ORIGINS
from kvmwhy.readers import read
from kvmwhy.record import Failure, Host, Setup, Source

INTEL_ONLY = ("kvm_intel", "VT-x")


def advice_of(failure: Failure) -> str:
    return "\n".join(advice.text for advice in diagnose(failure).advice)


def asked_of(failure: Failure) -> str:
    return "\n".join(diagnose(failure).collect)


def entry(text: bytes = b"KVM: entry failed, hardware error 0x7\n", **host: Any) -> Failure:
    return msgspec.structs.replace(read(text).failures[0], host=Host(**host))


def test_no_intel_parameter_for_amd() -> None:
    """SVM's own number: nothing of kvm_intel is recommended or asked for."""
    failure = entry(b"KVM: entry failed, hardware error 0xffffffff\n", vendor="svm")
    assert not any(word in advice_of(failure) + asked_of(failure) for word in INTEL_ONLY)


def test_what_the_page_shows_is_not_asked_for() -> None:
    """Kernel and machine are named: neither uname nor systemd-detect-virt is wanted any more."""
    bare, shown = entry(), entry(kernel="6.1.0-18-amd64", hypervisor="VMware")
    assert "uname -r" in asked_of(bare)
    assert "detect-virt" in asked_of(bare)
    assert "uname" not in asked_of(shown)
    assert "detect-virt" not in asked_of(shown) + advice_of(shown)


@pytest.mark.parametrize(("errno", "words"), [("EACCES", "-aG kvm"), ("ENOENT", "modprobe")], ids=["rights", "module"])
def test_a_closed_dev_kvm_gets_what_opens_it(errno: str, words: str) -> None:
    """The errno tells rights from a missing module."""
    failure = Failure(kind="setup-refused", arch="x86", errno=errno, setup=Setup(call="open", detail="device"))
    assert words in advice_of(failure)


def test_a_guest_with_ram_gets_no_advice_about_m() -> None:
    """A Linux kernel on its own stack: more RAM is no remedy."""
    text = (
        b"KVM internal error. Suberror: 3\nextra data[0]: 0x0000000080000b0e\nextra data[1]: 0x0000000000000031\n"
        b"extra data[2]: 0x0000000000000d81\nextra data[3]: 0x0000000390074ac0\n"
    )
    assert "-m 1G" not in advice_of(read(text).failures[0])


def test_every_entry_names_an_origin_and_ends_as_a_sentence() -> None:
    """Advice is whole sentences, for roles and origins that there are."""
    for one in ENTRIES:
        assert one.origin in ORIGINS
        assert one.role in {"guest", "vmm", "host"}
        assert one.text.endswith(".")


@pytest.mark.parametrize(
    ("vmm", "words"),
    [
        (None, ["internal.suberror of kvm_run", "KVM_GET_SREGS"]),
        ("qemu", ["the line that names the suberror", "the register dump"]),
        (
            "stratovirt",
            ["never printed by stratovirt; `kvmwhy attach PID`", "`kvmwhy watch` beside the next run shows RIP"],
        ),
        ("kvmtool", ["never printed by kvmtool; `kvmwhy watch`", "the register dump that kvmtool prints"]),
        ("hyperlight", ["while its process lives, else `kvmwhy watch`"]),
    ],
)
def test_what_a_vmm_never_prints_is_got_elsewhere(vmm: str | None, words: list[str]) -> None:
    """Nobody is sent to look for a line that the program does not have."""
    asked = asked_of(Failure(kind="internal-error", arch="x86", exit_reason=17, source=Source(vmm=vmm)))
    assert all(word in asked for word in words)
