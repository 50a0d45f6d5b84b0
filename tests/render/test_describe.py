"""A refused set-up, a symptom and another hypervisor's failure are explained in words, from text to sentence."""

from __future__ import annotations

import pytest

from kvmwhy.readers import read
from kvmwhy.render.describe import about
from setup_lines import REGISTERS


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("IA32_PERF_CAPABILITIES", "qemu-system-x86_64: error: failed to set MSR 0x345 to 0x2000\n"),
        ("-pdcm", "qemu-system-x86_64: error: failed to set MSR 0x345 to 0x2000\n"),
        ("INVALID_PARAM", "qemu: sev_snp_launch_update: SNP_LAUNCH_UPDATE ret=-5 fw_error=22 'Invalid parameter'\n"),
        (
            "TDX_OPERAND_INVALID",
            "qemu: TDX ioctl KVM_TDX_INIT_VM failed, hw_errors: 0xc000010000000000: x\n",
        ),
        (
            "just under 8 TiB",
            "kvm_set_user_memory_region: KVM_SET_USER_MEMORY_REGION failed, slot=1, start=0x0, size=0x8ff40000000: x\n",
        ),
        ("kvmwhy attach", "VM status: paused (internal-error)\n"),
        ("Xen", "(XEN) Failed vm entry (exit reason 0x80000021) caused by invalid guest state (0).\n"),
        ("triple fault", "check_exception old: 0xffffffff new 0xe\ncheck_exception old: 0x8 new 0xd\n"),
    ],
)
def test_the_words_are_those_of_the_case(words: str, text: str) -> None:
    """What a number is, whose it is, and what to do next."""
    (failure,) = read(text.encode()).failures
    assert any(words in sentence for sentence in about(failure)), about(failure)


def test_refused_registers_are_checked_by_kvms_own_rules() -> None:
    """CS.L outside long mode: arch/x86/kvm/x86.c, kvm_is_valid_sregs."""
    (failure,) = read(REGISTERS.encode()).failures
    assert any("CS is a 64-bit code segment" in sentence for sentence in about(failure)), about(failure)


def test_other_failures_have_their_words_elsewhere() -> None:
    """Nothing is said twice."""
    (failure,) = read(b"KVM: entry failed, hardware error 0x80000021\n").failures
    assert about(failure) == ()
