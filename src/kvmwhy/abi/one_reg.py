"""The ids of KVM_GET_ONE_REG and KVM_SET_ONE_REG: whose register it is, and which.

include/uapi/linux/kvm.h has the architecture and the size; the rest is each architecture's own.
"""

from __future__ import annotations

from typing import Final, Literal

Arch = Literal["ppc64", "s390x", "arm64", "mips", "riscv64", "loongarch", "x86"]

_ARCHS: Final[dict[int, Arch]] = {
    0x10: "ppc64", 0x20: "x86", 0x40: "arm64", 0x50: "s390x", 0x60: "arm64", 0x70: "mips", 0x80: "riscv64",
    0x90: "loongarch",
}  # fmt: skip
_LEAST: Final = 1 << 48  # an id has its architecture in the top byte


def arch_of(number: int) -> Arch | None:
    """Whose register it is."""
    return _ARCHS.get(number >> 56) if number >= _LEAST else None


def register_of(number: int) -> str | None:
    """The register by name; ``None``: not known, or not an id."""
    match arch_of(number):
        case "arm64":
            from kvmwhy.abi.arm64 import one_reg as arm64

            return arm64.register_of(number)
        case "riscv64":
            from kvmwhy.abi.riscv64 import one_reg as riscv64

            return riscv64.register_of(number)
    return None
