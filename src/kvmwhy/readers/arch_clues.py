"""Which architecture a text is about, where no register dump shows it.

A program's or a kernel's name decides before an errno does: some errnos come out of KVM_RUN on one architecture only
(arch/arm64/kvm/mmio.c: io_mem_abort, arch/riscv/kvm/vcpu_insn.c, arch/powerpc/kvm/book3s_hv.c).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from kvmwhy.record import Arch

Clue = tuple[Arch | None, str | None]

_MACHINES: Final[dict[str, Arch]] = {
    "x86_64": "x86", "i386": "x86", "i686": "x86", "amd64": "x86", "aarch64": "arm64", "arm64": "arm64", "arm": "arm64",
    "armv7l": "arm64", "armv8l": "arm64", "riscv64": "riscv64", "riscv32": "riscv64", "s390x": "s390x",
    "ppc64": "ppc64", "ppc64le": "ppc64", "ppc": "ppc", "loongarch64": "loongarch",
    "mips": "mips", "mips64": "mips", "mips64el": "mips", "mipsel": "mips",
}  # fmt: skip
_NAMES: Final = "|".join(sorted(_MACHINES, key=len, reverse=True))
_QEMU: Final = re.compile(rf"\bqemu-(?:system-|kvm-)({_NAMES})\b")
# uname's last words, lscpu's first line, a distribution's kernel: 6.1.0-18-arm64, 5.14.0-70.el9.aarch64
_UNAME: Final = re.compile(
    rf"\b({_NAMES}) GNU/Linux|\bArchitecture:\s{{1,40}}({_NAMES})\b"
    rf"|\b\d{{1,2}}\.\d{{1,3}}\.\d[\w.+-]{{0,60}}?[.-]({_NAMES})(?![\w-])"
)
_SMT_HINT: Final = "because your SMT is enabled"
_ERRNOS: Final[dict[str, Arch]] = {"ENOSYS": "arm64", "EOPNOTSUPP": "riscv64"}
_KERNEL: Final[tuple[tuple[str, Arch], ...]] = (
    ("VCPU exit error -", "riscv64"),
    ("no valid syndrome info", "arm64"),
    ("load/store instruction decoding not implemented", "arm64"),
    ("Unsupported FSC: EC=", "arm64"),
    ("Got unsupported MMU fault", "ppc64"),
    ("kvm_intel", "x86"),
    ("kvm_amd", "x86"),
    ("unhandled validity intercept", "s390x"),
)


def arch_of(text: str, errno: str | None = None) -> Clue:
    """The architecture and what shows it; ``errno`` is what KVM_RUN returned."""
    arch, why = _named(text)
    if arch is None and errno in _ERRNOS:
        return _ERRNOS[errno], f"KVM_RUN returns {errno} on this architecture only"
    return arch, why


@lru_cache(maxsize=16)
def _named(text: str) -> Clue:
    if _SMT_HINT in text:  # target/ppc: QEMU's hint for EBUSY on POWER8
        return "ppc64", "QEMU's hint about SMT is printed on POWER hosts only"
    if "qemu-" in text and (one := _only({found[1] for found in _QEMU.finditer(text)})):
        return _MACHINES[one], f"QEMU's name: qemu-system-{one}"
    for words, arch in _KERNEL:
        if words in text:
            return arch, f"the host's kernel log: {words!r}"
    machines = {found[1] or found[2] or found[3] for found in _UNAME.finditer(text)}
    if one := _only(machines):
        return _MACHINES[one], f"the kernel's name: {one}"
    return None, None


def _only(names: set[str]) -> str | None:
    """One of the names, if all mean the same architecture."""
    return min(names) if len({_MACHINES[name] for name in names}) == 1 else None
