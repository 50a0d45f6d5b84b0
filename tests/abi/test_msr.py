"""MSRs are named, with who offers them and which CPU feature hides them."""

from __future__ import annotations

import pytest

from kvmwhy.abi.x86.msr import describe_msr


@pytest.mark.parametrize(
    ("number", "name", "feature"),
    [
        # arch/x86/include/asm/msr-index.h, uapi/asm/kvm_para.h, asm/hyperv-tlfs.h; QEMU target/i386/kvm/kvm.c
        (0x48E, "IA32_VMX_TRUE_PROCBASED_CTLS", "vmx"),
        (0x480, "IA32_VMX_BASIC", "vmx"),
        (0x491, "IA32_VMX_VMFUNC", "vmx"),
        (0x345, "IA32_PERF_CAPABILITIES", "pdcm"),
        (0x38D, "IA32_FIXED_CTR_CTRL", "pmu"),
        (0xE1, "IA32_UMWAIT_CONTROL", "waitpkg"),
        (0x202, "IA32_MTRR_PHYSBASE1", "mtrr"),
        (0x203, "IA32_MTRR_PHYSMASK1", "mtrr"),
        (0x405, "IA32_MC1_STATUS", "mce"),
        (0x4B564D02, "KVM_ASYNC_PF_EN", "kvm-asyncpf"),
        (0x40000073, "HV_X64_MSR_VP_ASSIST_PAGE", "hv-vapic"),
        (0xC0000104, "AMD64_TSC_RATIO", "tsc-scale"),
    ],
)
def test_an_msr_has_its_name_and_feature(number: int, name: str, feature: str) -> None:
    """As the kernel's headers and QEMU have them."""
    msr = describe_msr(number)
    assert msr is not None
    assert msr.name == name
    assert feature in msr.features


def test_an_unknown_number_has_no_name() -> None:
    """Nothing is invented."""
    assert describe_msr(0xDEAD) is None
