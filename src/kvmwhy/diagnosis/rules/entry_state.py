"""A rule of VM entry that the guest's state breaks, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmwhy.abi.x86 import svm, vmx
from kvmwhy.arch.x86.reset_state import State
from kvmwhy.diagnosis.cause import Cause, Confidence, Finding, Fix
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.rules.host_kernel_trouble import host_trouble
from kvmwhy.diagnosis.rules.smm import is_smm_entry

if TYPE_CHECKING:
    from kvmwhy.arch.x86.vm_entry import Checked, Violation  # a hundred rules, loaded when an entry has failed

CAUSE = Cause(
    id="entry-rule-broken",
    family="invalid-guest-state",
    title="The guest's state breaks a rule of VM entry, and it is known which",
    what=(
        "Before each VM entry the CPU checks the state that it is to load, by rules which the manual lists. kvmwhy holds"
        " the registers, and the VMCS or VMCB if the host's kernel dumped it, against the same rules."
    ),
    recognise=(
        "hardware error 0x80000021 (Intel), or 0xffffffff and 0xffffffffffffffff (AMD), with registers or a dump in which"
        " at least one rule does not hold."
    ),
    confused_with=(
        "invalid-guest-state: the same numbers, where no broken rule can be shown. entry-bad-event and"
        " entry-controls: there the event or KVM's own fields are wrong. KVM emulates many such states on Intel CPUs without"
        " unrestricted guest, and then nothing is refused."
    ),
    fix=Fix(
        guest="If the guest made this state, look at what it did before RIP: switching modes, LTR, MOV SS, POPF, IRET.",
        vmm=(
            "Correct the value where it is loaded: KVM_SET_SREGS, KVM_SET_REGS, KVM_SET_VCPU_EVENTS, or the saved state that"
            " was restored."
        ),
        host="If neither the guest nor the VMM loaded such a value, KVM did: report it with this dump and uname -r.",
    ),
    references=(
        'SDM vol. 3C, 27.3.1 "Checks on the Guest State Area"',
        'APM vol. 2, 15.5.1 "Basic Operation": canonicalization and consistency checks',
        "arch/x86/kvm/vmx/vmx.c: vmx_guest_state_valid, dump_vmcs; arch/x86/kvm/svm/svm.c: dump_vmcb",
    ),
    example="RFLAGS.IF clear while an external interrupt is injected: 27.3.1.4",
)

_INVALID_VMX = 0x8000_0021
INVALID_STATE = frozenset((_INVALID_VMX, *svm.VMEXIT_INVALID))
COLLECT = (
    "Load kvm_intel with dump_invalid_vmcs=1 (kvm_amd: dump_invalid_vmcb=1), reproduce, and give kvmwhy the kernel's"
    " log: it shows what the CPU was really given."
)
_MOST = 8  # rules named one by one


def suspects(facts: Facts, result: Checked) -> list[Violation]:
    """The guest-state rules that explain the refusal.

    In protected mode a rule that the registers break explains it on any host: with unrestricted guest the CPU
    refuses, without it KVM does not enter at all. In real mode it would make the segments fit, so nothing is known.
    """
    broken = [violation for violation in result.violations if violation.rule.about == "guest"]
    shown = facts.mode is not None and facts.mode.name not in {"real16", "vm86"} and facts.failure.control is None
    if broken or not shown:
        return broken
    from kvmwhy.arch.x86.vm_entry import DEPENDS, Violation

    return [
        Violation(unknown.rule, unknown.value)
        for unknown in result.unknown
        if unknown.value and unknown.missing == DEPENDS and unknown.rule.about == "guest"
    ]


def hints(facts: Facts) -> list[str]:
    """What the CPU said of its reason, in the exit qualification that only the kernel's dump has (SDM 3C, 27.8)."""
    qualification = facts.failure.exit.info1 if facts.failure.exit else None
    if not qualification or facts.failure.hardware_error != _INVALID_VMX:
        return []
    meaning = vmx.describe_qualification(33, qualification, failed_entry=True)
    return [f"the CPU's own hint (exit qualification {qualification:#x}): {meaning}"]


def said(violation: Violation) -> str:
    return f"{violation.rule.sentence}; here {violation.value} ({violation.rule.section})"


def listed(violations: list[Violation], result: Checked) -> tuple[str, ...]:
    """The broken rules, and how many others there are."""
    more = [f"{len(violations) - _MOST} more rules are broken"] if len(violations) > _MOST else []
    return (*map(said, violations[:_MOST]), *more, counted(result))


def counted(result: Checked) -> str:
    total = len(result.violations) + len(result.unknown) + len(result.passed)
    if not result.unknown:
        return f"the other {len(result.passed)} of the {total} rules that kvmwhy knows hold"
    missing = list(dict.fromkeys(unknown.missing for unknown in result.unknown))
    wanted = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    return (
        f"of the {total} rules that kvmwhy knows {len(result.passed)} hold,"
        f" and {len(result.unknown)} could not be checked, for want of: {wanted}"
    )


def rule(facts: Facts) -> Finding | None:
    failure = facts.failure
    result = facts.checked
    cut = failure.hardware_error is None and failure.control is not None and failure.exit is None
    if result is None or not (cut or failure.hardware_error in INVALID_STATE):
        return None
    broken = suspects(facts, result)
    if not broken:
        return None
    against = [] if failure.control else ["these are the registers that the guest sees, not what the CPU was given"]
    if broken[0] not in result.violations:
        against.append("it is not shown whether the host uses unrestricted guest; without it KVM emulates such a state")
    first = broken[0]
    more = f", and {len(broken) - 1} more rules are broken" if len(broken) > 1 else ""
    return Finding(
        CAUSE,
        _confidence(facts),
        f"The CPU refused to enter the guest because of its state: {first.rule.sentence}; here {first.value}{more}.",
        (*hints(facts), *listed(broken, result)),
        tuple(against),
        None if failure.control else CAUSE.fix._replace(host=COLLECT),
    )


def _confidence(facts: Facts) -> Confidence:
    """The dump is what the CPU was given. Who made it may be known better by another rule, which then comes first."""
    made_by_another = is_smm_entry(facts) or (
        facts.reset is not None and facts.reset.state in {State.MIXTURE, State.HALF_RESET}
    )
    if facts.failure.control is None:
        return "possible" if host_trouble(facts) or made_by_another else "likely"
    return "likely" if made_by_another or facts.failure.damage else "certain"
