"""Register ids, ioctls and structures of arm64 and riscv64, against those architectures' own headers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kvmwhy.abi import ioctl
from kvmwhy.abi.arm64 import ioctl as arm64_ioctl
from kvmwhy.abi.arm64 import one_reg as arm64
from kvmwhy.abi.one_reg import register_of
from kvmwhy.abi.riscv64 import one_reg as riscv64

_HEAD = "#include <stddef.h>\n#include <linux/kvm.h>\n"


def holds(tmp_path: Path, compiler: str, claims: dict[str, int]) -> None:
    """Each expression of C has its value: a compiler for another architecture can say so without running anything."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    lines = [f'_Static_assert(({text}) == {value:#x}ull, "{text}");' for text, value in claims.items()]
    source = tmp_path / "claims.c"
    source.write_text(_HEAD + "\n".join(lines) + "\n")
    done = subprocess.run([compiler, "-fsyntax-only", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_arm64_has_these_numbers(tmp_path: Path) -> None:
    """Core registers by their place in struct kvm_regs, system registers by ARM64_SYS_REG, ioctls and capabilities."""
    places = {name: f"regs.regs[{n}]" for n, name in enumerate(arm64.CORE[:31])}
    places |= {name: f"regs.{name}" for name in ("sp", "pc", "pstate")}
    places |= {"sp_el1": "sp_el1", "elr_el1": "elr_el1", "spsr_el1": "spsr[0]"}
    core = "KVM_REG_ARM64|KVM_REG_SIZE_U64|KVM_REG_ARM_CORE"
    claims = {f"{core}|KVM_REG_ARM_CORE_REG({place})": arm64.REGISTERS[name] for name, place in places.items()}
    claims |= {
        "ARM64_SYS_REG(3,0,12,0,0)": arm64.REGISTERS["vbar_el1"],
        "ARM64_SYS_REG(3,0,5,2,0)": arm64.REGISTERS["esr_el1"],
        "ARM64_SYS_REG(3,0,1,0,2)": arm64.REGISTERS["cpacr_el1"],
        "1 << KVM_ARM_VCPU_PSCI_0_2": arm64_ioctl.FEATURE_PSCI_0_2,
        "offsetof(struct kvm_vcpu_events, exception.ext_dabt_pending)": arm64_ioctl.EXT_DABT_PENDING,
    }
    claims |= {request.name: request.value for request in arm64_ioctl.Arm64Ioctl}
    known = {name: info.number for name, info in arm64_ioctl.CAPABILITIES.items() if info.number <= 205}
    holds(tmp_path, "aarch64-linux-gnu-gcc", claims | known)


def test_riscv64_has_these_numbers(tmp_path: Path) -> None:
    """Registers by their place in struct kvm_riscv_core and kvm_riscv_csr."""
    core = {name: f"regs.{name}" for name in riscv64.CORE[:-1]} | {"mode": "mode"}
    claims = {
        f"KVM_REG_RISCV|KVM_REG_SIZE_U64|KVM_REG_RISCV_CORE|KVM_REG_RISCV_CORE_REG({place})": riscv64.REGISTERS[name]
        for name, place in core.items()
    }
    claims |= {
        f"KVM_REG_RISCV|KVM_REG_SIZE_U64|KVM_REG_RISCV_CSR|KVM_REG_RISCV_CSR_REG({name})": riscv64.REGISTERS[name]
        for name in riscv64.CSR
    }
    shared = ("KVM_GET_ONE_REG", "KVM_SET_ONE_REG", "KVM_CREATE_DEVICE", "KVM_SET_MP_STATE", "KVM_ENABLE_CAP")
    holds(tmp_path, "riscv64-linux-gnu-gcc", claims | {name: ioctl.Ioctl[name].value for name in shared})


@pytest.mark.parametrize(
    ("number", "name"),
    [
        # arch/arm64/include/uapi/asm/kvm.h: struct kvm_regs, in words of 32 bits
        (0x6030_0000_0010_0000, "X0"),
        (0x6030_0000_0010_003C, "X30"),
        (0x6030_0000_0010_003D, None),  # the upper half of one
        (0x6030_0000_0010_003E, "SP_EL0"),
        (0x6030_0000_0010_0040, "PC"),
        (0x6030_0000_0010_0042, "PSTATE"),
        (0x6030_0000_0010_0044, "SP_EL1"),
        (0x6030_0000_0010_0046, "ELR_EL1"),
        (0x6030_0000_0010_0048, "SPSR 0"),
        (0x6030_0000_0010_0050, "SPSR 4"),
        (0x6040_0000_0010_0054, "V0"),
        (0x6040_0000_0010_00D0, "V31"),
        (0x6020_0000_0010_00D4, "FPSR"),
        (0x6020_0000_0010_00D5, "FPCR"),
        (0x6030_0000_0010_00D6, None),
        # arch/riscv/include/uapi/asm/kvm.h: struct kvm_riscv_core, kvm_riscv_csr, kvm_riscv_config
        (0x8030_0000_0200_0000, "pc"),
        (0x8030_0000_0200_001F, "t6"),
        (0x8030_0000_0200_0020, "mode"),
        (0x8030_0000_0200_0021, None),
        (0x8030_0000_0300_0009, "scounteren"),
        (0x8030_0000_0300_000A, "senvcfg"),
        (0x8030_0000_0100_0006, "satp_mode"),
        (0xF030_0000_0000_0000, None),  # no architecture has this number
    ],
)
def test_the_name_of_an_id(number: int, name: str | None) -> None:
    """As KVM's structures have them one after another."""
    assert register_of(number) == name
