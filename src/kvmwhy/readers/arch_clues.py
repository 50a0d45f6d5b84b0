"""Which architecture a text is about, where no register dump shows it.

A program's or a kernel's name decides before an errno does: some errnos come out of KVM_RUN on one architecture only
(arch/arm64/kvm/mmio.c: io_mem_abort, arch/riscv/kvm/vcpu_insn.c, arch/powerpc/kvm/book3s_hv.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from kvmwhy.abi.uname import MACHINES
from kvmwhy.record import Arch, Failure

_LINE_END: Final = re.compile(r"\n")
_NEAR: Final = 4096  # characters: what stands further away may be of another host
Clue = tuple[Arch | None, str | None]

_NAMES: Final = "|".join(sorted(MACHINES, key=len, reverse=True))
_QEMU: Final = re.compile(rf"\bqemu-(?:system-|kvm-)({_NAMES})\b")
# uname's last words, lscpu's first line, a distribution's kernel: 6.1.0-18-arm64, 5.14.0-70.el9.aarch64
_UNAME: Final = re.compile(
    rf"\b({_NAMES}) GNU/Linux|\bArchitecture:\s{{1,40}}({_NAMES})\b"
    rf"|\b\d{{1,2}}\.\d{{1,3}}\.\d[\w.+-]{{0,60}}?[.-]({_NAMES})(?![\w-])"
)
# The last resort: what a program or a package is called.
_FILE: Final = re.compile(rf"(?<=[-_./])({_NAMES})(?![\w-])")
_SMT_HINT: Final = "because your SMT is enabled"
_ERRNOS: Final[dict[str, Arch]] = {"ENOSYS": "arm64", "ENOEXEC": "arm64", "EOPNOTSUPP": "riscv64"}
_KERNEL: Final[tuple[tuple[str, Arch], ...]] = (
    ("VCPU exit error -", "riscv64"),
    ("no valid syndrome info", "arm64"),
    ("load/store instruction decoding not implemented", "arm64"),
    ("Unsupported FSC: EC=", "arm64"),
    ("Got unsupported MMU fault", "ppc64"),
    ("HSR_EC: ", "arm64"),
    ("ESR_EL2", "arm64"),
    ("Unsupported guest sys_reg access", "arm64"),
    ("nVHE hyp ", "arm64"),
    ("HYP panic", "arm64"),
    ("Hyp Offset", "arm64"),
    ("dummy-virt (DT)", "arm64"),
    ("HYP mode not available", "arm64"),
    ("KVM_REG_ARM", "arm64"),
    ("GIC state", "arm64"),
    ("vgic", "arm64"),
    ("KVM AIA", "riscv64"),
    ("SCAUSE", "riscv64"),
    ("kvmppc_", "ppc64"),
    ("KVM-HV: ", "ppc64"),
    ("allocate_pgste", "s390x"),
    ("kvm_intel", "x86"),
    ("kvm_amd", "x86"),
    ("unhandled validity intercept", "s390x"),
)


def with_arch(failures: Iterable[Failure], text: str) -> Iterator[Failure]:
    """The failures with the architecture that the text around them is about, where their reader did not know."""
    starts: list[int] | None = None
    for failure in failures:
        if failure.arch is None:
            starts = starts or [0, *(line_end.end() for line_end in _LINE_END.finditer(text))]
            at = starts[min((failure.source.line or 1), len(starts)) - 1]
            arch, why = arch_of(text, at, failure.errno if failure.kind == "run-error" else None)
            yield failure if arch is None else replace(failure, arch=arch, arch_from=why)
        else:
            yield failure


def arch_of(text: str, at: int, errno: str | None = None) -> Clue:
    """The architecture and what shows it near ``at``; ``errno`` is what KVM_RUN returned."""
    block = at // _NEAR  # failures of one block have one answer, which is remembered
    arch, why = _named(text[max(0, block - 1) * _NEAR : (block + 2) * _NEAR])
    return arch_of_errno(errno) if arch is None else (arch, why)


def arch_of_errno(name: str | None) -> Clue:
    """The one architecture on which KVM_RUN returns this errno, and the sentence that says so."""
    arch = _ERRNOS.get(name or "")
    return (arch, f"KVM_RUN returns {name} on this architecture only") if arch else (None, None)


@lru_cache(maxsize=16)
def _named(text: str) -> Clue:
    if _SMT_HINT in text:  # target/ppc: QEMU's hint for EBUSY on POWER8
        return "ppc64", "QEMU's hint about SMT is printed on POWER hosts only"
    if "qemu-" in text and (machine := _only({mention[1] for mention in _QEMU.finditer(text)})):
        return MACHINES[machine], f"QEMU's name: qemu-system-{machine}"
    words_of = {arch: words for words, arch in reversed(_KERNEL) if words in text}
    if len(words_of) == 1:
        ((arch, words),) = words_of.items()
        return arch, f"the words {words.strip()!r}"
    machines = {mention[1] or mention[2] or mention[3] for mention in _UNAME.finditer(text)}
    if machine := _only(machines):
        return MACHINES[machine], f"the kernel's name: {machine}"
    if machine := _only({mention[1] for mention in _FILE.finditer(text)}):
        return MACHINES[machine], f"a file's name: {machine}"
    return None, None


def _only(names: set[str]) -> str | None:
    """One of the names, if all mean the same architecture."""
    return min(names) if len({MACHINES[name] for name in names}) == 1 else None
