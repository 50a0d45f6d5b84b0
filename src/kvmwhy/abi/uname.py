"""Architectures, and how uname, QEMU and distributions spell them."""

from __future__ import annotations

from typing import Final, Literal

Arch = Literal["x86", "arm64", "riscv64", "s390x", "ppc64", "ppc", "loongarch", "mips"]

MACHINES: Final[dict[str, Arch]] = {
    "x86_64": "x86", "i386": "x86", "i686": "x86", "amd64": "x86", "aarch64": "arm64", "arm64": "arm64", "arm": "arm64",
    "armv7l": "arm64", "armv8l": "arm64", "riscv64": "riscv64", "riscv32": "riscv64", "s390x": "s390x",
    "ppc64": "ppc64", "ppc64le": "ppc64", "ppc": "ppc", "loongarch64": "loongarch",
    "mips": "mips", "mips64": "mips", "mips64el": "mips", "mipsel": "mips",
}  # fmt: skip


def arch_of(machine: str) -> Arch | None:
    """By ``uname -m``; None for one without KVM."""
    return MACHINES.get(machine)
