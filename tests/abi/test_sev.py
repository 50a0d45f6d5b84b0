"""Status codes of the SEV firmware, and of SEAMCALLs, in words."""

from __future__ import annotations

from kvmwhy.abi.x86.sev import code_name, describe_code
from kvmwhy.abi.x86.tdx import leaf_name, status_name


def test_a_code_has_the_name_of_psp_sev_h() -> None:
    """include/uapi/linux/psp-sev.h."""
    assert code_name(0x16) == "SEV_RET_INVALID_PARAM"
    assert code_name(0x20) == "SEV_RET_RMP_INIT_REQUIRED"
    assert describe_code(3).startswith("INVALID_CONFIG")


def test_a_code_of_the_psp_is_told_apart() -> None:
    """0x8004 is none of the SEV firmware's."""
    assert "PSP" in describe_code(0x8004)
    assert "never called" in describe_code(0xFFFFFFFF)
    assert "0x77" in describe_code(0x77)


def test_a_seamcall_has_the_name_of_its_leaf() -> None:
    """arch/x86/virt/vmx/tdx/tdx.h: TDH_SYS_INIT 33, TDH_SYS_RD 34, TDH_SYS_CONFIG 45; bits 23:16 hold a version."""
    assert [leaf_name(n) for n in (0, 33, 34, 45)] == ["TDH_VP_ENTER", "TDH_SYS_INIT", "TDH_SYS_RD", "TDH_SYS_CONFIG"]
    assert leaf_name(1 << 16 | 22) == "TDH_VP_INIT"
    assert leaf_name(200) is None


def test_statuses_of_setting_up_have_names() -> None:
    """TDX module ABI specification, table of completion status codes."""
    assert status_name(0xC000050500000000) == "TDX_SYS_NOT_READY"
    assert status_name(0x8000080000000000) == "TDX_KEY_GENERATION_FAILED"
    assert status_name(0xC0000B0800000001) == "TDX_TLB_TRACKING_NOT_DONE"
