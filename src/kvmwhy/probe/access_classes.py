"""The classes of access that KVM of arm64 and riscv64 tells apart where there is no memory, one or two forms of each.

``expected`` is what KVM makes of it for a VMM that asks for nothing: arch/arm64/kvm/mmio.c (io_mem_abort: the CPU
describes the access or not; mmu.c: kvm_handle_guest_abort), arch/riscv/kvm/vcpu_insn.c
(kvm_riscv_vcpu_mmio_load, kvm_riscv_vcpu_mmio_store).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.abi.uname import Arch


class AccessClass(NamedTuple):
    """One form. ``off``: how far from aligned it accesses."""

    name: str
    text: str
    code: bytes
    expected: tuple[str, ...]  # see machine.access.kind
    base: str  # the register that holds the address
    off: int = 0


def _arm64(name: str, expected: str, *forms: tuple[str, int]) -> tuple[AccessClass, ...]:
    return tuple(AccessClass(name, text, word.to_bytes(4, "little"), (expected,), "x0") for text, word in forms)


def _riscv64(name: str, expected: str, *forms: tuple[str, str], off: int = 0) -> tuple[AccessClass, ...]:
    return tuple(AccessClass(name, text, bytes.fromhex(code), (expected,), "a0", off) for text, code in forms)


_ARM64: Final = (
    *_arm64("one register", "mmio", ("ldr x1, [x0]", 0xF9400001), ("str x1, [x0]", 0xF9000001)),
    *_arm64("one register", "mmio", ("ldrsh w1, [x0, #2]", 0x79C00401), ("ldr w1, [x0, x2]", 0xB8626801)),
    *_arm64("acquire or release", "mmio", ("ldar x1, [x0]", 0xC8DFFC01), ("stlr x1, [x0]", 0xC89FFC01)),
    *_arm64("write-back", "ENOSYS", ("ldr x1, [x0], #8", 0xF8408401), ("str x1, [x0, #8]!", 0xF8008C01)),
    *_arm64("pair", "ENOSYS", ("ldp x1, x2, [x0]", 0xA9400801), ("stp x1, x2, [x0]", 0xA9000801)),
    *_arm64("SIMD and FP register", "ENOSYS", ("ldr q0, [x0]", 0x3DC00000), ("str d0, [x0]", 0xFD000000)),
    *_arm64("SIMD structure", "ENOSYS", ("ld1 {v0.16b}, [x0]", 0x4C407000)),
    *_arm64("exclusive", "ENOSYS", ("ldxr x1, [x0]", 0xC85F7C01)),
    *_arm64("compare and swap", "ENOSYS", ("cas x1, x2, [x0]", 0xC8A17C02)),
    *_arm64("atomic", "ENOSYS", ("ldadd x1, x2, [x0]", 0xF8210002)),
    *_arm64("zeroing", "ENOSYS", ("dc zva, x0", 0xD50B7420)),
    *_arm64("cache maintenance", "done", ("dc civac, x0", 0xD50B7E20)),
    *_arm64("prefetch", "done", ("prfm pldl1keep, [x0]", 0xF9800000)),
    AccessClass("instruction fetch", "br x0", (0xD61F0000).to_bytes(4, "little"), ("trap",), "x0"),
)
_RISCV64: Final = (
    *_riscv64("integer register", "mmio", ("ld a1, 0(a0)", "83350500"), ("sd a1, 0(a0)", "2330b500")),
    *_riscv64("integer register", "mmio", ("lbu a1, 0(a0)", "83450500"), ("sw a1, 0(a0)", "2320b500")),
    *_riscv64("compressed", "mmio", ("c.ld a1, 0(a0)", "0c61"), ("c.sw a1, 0(a0)", "0cc1")),
    *_riscv64("floating point register", "EOPNOTSUPP", ("fld fa1, 0(a0)", "87350500"), ("fsd fa1, 0(a0)", "2730b500")),
    *_riscv64("reserved (LR)", "EOPNOTSUPP", ("lr.d a1, (a0)", "af350510")),
    *_riscv64("atomic", "EOPNOTSUPP", ("amoadd.d a1, a2, (a0)", "af35c500")),
    *_riscv64("misaligned", "EIO", ("ld a1, 0(a0), an odd address", "83350500"), off=1),
    # 6.12 has no such exit (EOPNOTSUPP), later kernels give the guest an access fault (vcpu_exit.c: gstage_page_fault)
    AccessClass("instruction fetch", "jr a0", bytes.fromhex("67000500"), ("trap", "EOPNOTSUPP"), "a0"),
)
CLASSES: Final[dict[Arch, tuple[AccessClass, ...]]] = {"arm64": _ARM64, "riscv64": _RISCV64}
