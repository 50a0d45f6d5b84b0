"""A TDX guest died; what is shown of it is not its state."""

from __future__ import annotations

from kvmwhy.arch.x86.reset_state import UNSEEN
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts

CAUSE = Cause(
    id="tdx-status",
    family="confidential-guest",
    title="The TDX module ended the guest",
    what=(
        "The CPU runs a TDX guest only through the TDX module, which answered with an error status. KVM passes that status"
        " on in the place of an exit reason. The registers of such a guest are not visible to the host."
    ),
    recognise="Suberror 4 with a 64-bit status whose top bit is set; all registers zero.",
    confused_with="unhandled-exit: the number looks like an exit reason and is none.",
    fix=Fix(
        host=(
            "Read the host's kernel log of that second (SEAMCALL lines, machine checks, memory failures). A guest whose"
            " status is fatal cannot be resumed; start it anew."
        )
    ),
    references=(
        "arch/x86/kvm/vmx/tdx.c: tdx_handle_exit",
        "Intel TDX Module ABI specification: completion status codes",
    ),
    example="0xe000060400000000: the guest was marked fatal after a memory error",
)


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    if facts.vendor.vendor != "tdx" or failure.suberror != 4 or not failure.data:
        return None
    name = facts.explained.name if facts.explained and facts.explained.name else "an error"
    for_ = [
        f"the first word, {failure.data[0]:#x}, is a status of the TDX module, not an exit reason",
        facts.vendor.why,
    ]
    if facts.reset and facts.reset.state in UNSEEN:
        for_.append("all registers read as zero, as those of a protected guest do")
    return Finding(CAUSE, "likely", f"The TDX module ended this guest: {name} ({failure.data[0]:#x}).", tuple(for_))
