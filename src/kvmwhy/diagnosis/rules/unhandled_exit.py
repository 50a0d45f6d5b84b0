"""The CPU left the guest for a reason for which KVM has no handler."""

from __future__ import annotations

from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.diagnosis.cause import Cause, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.host_events import unexpected_exit
from kvmwhy.diagnosis.rules.host_dying import is_init

CAUSE = Cause(
    id="unhandled-exit",
    family="unhandled-exit",
    title="KVM has no handler for this exit",
    what=(
        "The CPU left the guest for a reason that KVM did not ask for and cannot handle. Either something else set the"
        " intercept (a modified kernel or module, an outer hypervisor), or the CPU has a feature that KVM does not know."
    ),
    recognise="Suberror 4; the first word is the exit reason (VMX) or exit code (SVM), the second the host's CPU.",
    confused_with="host-dying: INIT exits come when the host resets. confidential-guest: TDX puts its status word there.",
    fix=Fix(
        guest="If the reason names an instruction, avoid it for now.",
        vmm="Do not offer the feature to the guest (CPU model without it).",
        host="Load unmodified KVM modules; inside another hypervisor, ask who set this intercept; update the kernel.",
    ),
    references=("7396d337cfad (KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON) (in v5.4)",),
    example="0x33: RDTSCP exits on a host whose module intercepts it",
)

_EPT_MISCONFIG = 0x31  # has a cause of its own


def rule(facts: Facts) -> Finding | None:
    failure, vendor = facts.failure, facts.vendor.vendor
    if failure.kind == "unknown-exit":
        return _before_suberror_4(facts)
    code = failure.data[0] if failure.suberror == 4 and failure.data else unexpected_exit(failure)
    if code is None or vendor not in {"vmx", "svm"} or is_init(facts):
        return None
    name = facts.explained.name if facts.explained else None
    shown = f"{code:#x}" + (f" ({name})" if name else "")
    known = code in vmx.REASONS if vendor == "vmx" else svm.is_assigned(code)
    who = "suberror 4 says" if failure.suberror == 4 else "the host's log says"
    for_ = [f"the exit was {shown}, and {who} that KVM has no handler for it"]
    handled = _handled(vendor, code) if known else None
    against = ["kernels up to 7.3 do have a handler for it: this kernel is older, or the exit came at an odd moment"]
    return Finding(
        CAUSE,
        "certain" if not handled else "likely",
        f"The CPU left the guest with {shown}, for which KVM has no handler.",
        tuple(for_),
        tuple(against) if handled else (),
    )


def _handled(vendor: str | None, code: int) -> bool:
    """kvm_vmx_exit_handlers and svm_exit_handlers have a function for it."""
    if vendor == "vmx":
        return vmx.REASONS[code].handled
    entry = svm.find_code(code)
    return entry is not None and entry.handled


def _before_suberror_4(facts: Facts) -> Finding | None:
    """KVM_EXIT_UNKNOWN: how KVM said the same before 5.4, and still says of a few exits."""
    code, vendor = facts.failure.hardware_reason, facts.vendor.vendor
    if code is None or code == _EPT_MISCONFIG or code >> 32:
        return None
    intel = vmx.reason_name(code & 0xFFFF) if vmx.is_reason(code) and vendor in {"vmx", None} else None
    amd = svm.code_name(code) if svm.is_assigned(code) and vendor in {"svm", None} else None
    if not intel and not amd:
        return None
    names = " or ".join(f"{name} on {who}" for name, who in ((intel, "Intel"), (amd, "AMD")) if name)
    return Finding(
        CAUSE,
        "likely",
        f"The CPU left the guest with {code:#x} ({names}), for which KVM has no handler.",
        (f"hardware reason {code:#x} is {names}", "kernels before 5.4 report exits without a handler in this way"),
    )
