"""What uname says: architectures, as QEMU and distributions spell them too, and the series of a kernel's release."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

Arch = Literal["x86", "arm64", "riscv64", "s390x", "ppc64", "ppc", "loongarch", "mips"]

MACHINES: Final[dict[str, Arch]] = {
    "x86_64": "x86", "i386": "x86", "i686": "x86", "amd64": "x86", "aarch64": "arm64", "arm64": "arm64", "arm": "arm64",
    "armv7l": "arm64", "armv8l": "arm64", "riscv64": "riscv64", "riscv32": "riscv64", "s390x": "s390x",
    "ppc64": "ppc64", "ppc64le": "ppc64", "ppc": "ppc", "loongarch64": "loongarch",
    "mips": "mips", "mips64": "mips", "mips64el": "mips", "mipsel": "mips",
}  # fmt: skip
Series = tuple[int, int]


def arch_of(machine: str) -> Arch | None:
    """By ``uname -m``; None for one without KVM."""
    return MACHINES.get(machine)


@lru_cache(maxsize=64)
def series_of(release: str | None) -> Series | None:
    """Major and minor number, by ``uname -r`` or /proc/version: 6.1.0-56-cloud-amd64 is (6, 1). None: no release."""
    match = re.match(r"\D{0,16}?(\d{1,3})\.(\d{1,4})", release) if release else None
    return (int(match[1]), int(match[2])) if match else None
