"""What the lab has to know of each architecture whose KVM it runs: Debian's names for it, its compiler, its modules."""

from __future__ import annotations

from typing import Final, NamedTuple


class Architecture(NamedTuple):
    """``modules``: files that a kernel has to bring, unless its KVM is built in. ``needs``: programs of this machine
    that build for it, and the Debian packages that have them.
    """

    name: str
    debian: str
    suites: tuple[str, ...]
    flavour: str
    modules: tuple[str, ...]
    compiler: str
    needs: dict[str, str]


_FOREIGN_BUSYBOX: Final = "trixie"  # a suite that has it for each architecture

X86: Final = Architecture(
    "x86",
    "amd64",
    ("bullseye-security", "bookworm-security", "trixie-security", "trixie-backports", "sid"),
    "cloud-amd64",  # it has all of KVM and a third of the size
    ("kvm.ko", "kvm-amd.ko", "kvm-intel.ko"),
    "gcc",
    {"gcc": "gcc libc6-dev", "/bin/busybox": "busybox-static"},
)
ARM64: Final = Architecture(
    "arm64",
    "arm64",
    ("bookworm-security", "trixie-security", "trixie-backports"),
    "cloud-arm64",
    (),
    "aarch64-linux-gnu-gcc",
    {"aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"},
)
RISCV64: Final = Architecture(
    "riscv64",
    "riscv64",
    ("trixie-security", "trixie", "sid"),
    "riscv64",
    ("kvm.ko",),
    "riscv64-linux-gnu-gcc",
    {"riscv64-linux-gnu-gcc": "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross"},
)
ARCHITECTURES: Final = {architecture.name: architecture for architecture in (X86, ARM64, RISCV64)}


def busybox_suite(architecture: Architecture) -> str | None:
    """Where the first process's busybox comes from; ``None``: this machine's own does."""
    return None if architecture is X86 else _FOREIGN_BUSYBOX
