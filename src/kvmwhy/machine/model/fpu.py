"""x87 and SSE state: ``struct kvm_fpu`` and the XSAVE area, from and into Unicorn.

Layouts: uapi/asm/kvm.h; SDM vol. 1, 10.5.1 (FXSAVE) and 13.4 (XSAVE, standard format).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from kvmwhy.machine.model.cpu import Cpu
from kvmwhy.machine.model.unicorn_state import get_vector, set_vector

FPU_SIZE, XSAVE_SIZE = 416, 4096
_KVM_FPU: Final = struct.Struct("<128sHHBxHQQ256sIxxxx")
_LEGACY: Final = struct.Struct("<HHBxHQQII128s256s")
_STANDARD, _AVX_AT = 512, 576
_MXCSR_MASK: Final = 0xFFFF
_XCR0_MASK: Final = 7
_FCW, _MXCSR = 0x37F, 0x1F80


class State(NamedTuple):
    """In the order of ``struct kvm_fpu``; ``tags``: one bit per register, set if it is not empty."""

    fpr: bytes
    fcw: int
    fsw: int
    tags: int
    opcode: int
    ip: int
    dp: int
    xmm: bytes
    mxcsr: int


def reset(cpu: Cpu) -> None:
    """As KVM makes a vCPU's: the state that FNINIT leaves, where the manual's RESET has FCW 0x40."""
    _load(cpu, State(bytes(128), _FCW, 0, 0, 0, 0, 0, bytes(256), _MXCSR))


def get_fpu(cpu: Cpu) -> bytes:
    return _KVM_FPU.pack(*_state(cpu))


def set_fpu(cpu: Cpu, data: bytes) -> None:
    _load(cpu, State(*_KVM_FPU.unpack(data)))


def get_xsave(cpu: Cpu) -> bytes:
    fpu = _state(cpu)
    area = bytearray(XSAVE_SIZE)
    head = (fpu.fcw, fpu.fsw, fpu.tags, fpu.opcode, fpu.ip, fpu.dp, fpu.mxcsr, _MXCSR_MASK)
    _LEGACY.pack_into(area, 0, *head, fpu.fpr, fpu.xmm)
    struct.pack_into("<Q", area, _STANDARD, _XCR0_MASK)
    for number in range(16):
        high = get_vector(cpu.env, number, 32)[16:]
        area[_AVX_AT + 16 * number : _AVX_AT + 16 * (number + 1)] = high
    return bytes(area)


def set_xsave(cpu: Cpu, area: bytes) -> None:
    fcw, fsw, tags, opcode, ip, dp, mxcsr, _, fpr, xmm = _LEGACY.unpack_from(area)
    present = struct.unpack_from("<Q", area, _STANDARD)[0]
    if not present & 1:
        fcw, fsw, tags, fpr = _FCW, 0, 0, bytes(128)
    if not present & 2:
        xmm = bytes(256)
    _load(cpu, State(fpr, fcw, fsw, tags, opcode, ip, dp, xmm, mxcsr & _MXCSR_MASK))
    for number in range(16):
        high = area[_AVX_AT + 16 * number : _AVX_AT + 16 * (number + 1)] if present & 4 else bytes(16)
        set_vector(cpu.env, number, xmm[16 * number : 16 * (number + 1)] + high)


def _state(cpu: Cpu) -> State:
    from unicorn import x86_const as x86

    cpu.push()
    fcw, fsw, tags, opcode, ip, dp, mxcsr = (
        _integer(cpu.uc.reg_read(register))
        for register in (
            *(x86.UC_X86_REG_FPCW, x86.UC_X86_REG_FPSW, x86.UC_X86_REG_FPTAG, x86.UC_X86_REG_FOP),
            *(x86.UC_X86_REG_FIP, x86.UC_X86_REG_FDP, x86.UC_X86_REG_MXCSR),
        )
    )
    registers = b""
    for number in range(8):
        value = cpu.uc.reg_read(x86.UC_X86_REG_FP0 + ((fsw >> 11) + number & 7))
        assert isinstance(value, tuple)  # noqa: S101 -- (mantissa, sign and exponent)
        registers += struct.pack("<QH6x", *value)
    xmm = b"".join(get_vector(cpu.env, number, 16) for number in range(16))
    # 11 in the CPU's tag word is "empty"; FXSAVE has one bit per register, 1 for "not empty"
    short = sum(1 << number for number in range(8) if tags >> 2 * number & 3 != 3)
    return State(registers, fcw, fsw, short, opcode & 0x7FF, ip, dp, xmm, mxcsr)


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _load(cpu: Cpu, new: State) -> None:
    from unicorn import x86_const as x86

    for number in range(16):
        high = get_vector(cpu.env, number, 32)[16:]
        set_vector(cpu.env, number, new.xmm[16 * number : 16 * (number + 1)] + high)
    cpu.push()
    full = sum((0 if new.tags >> number & 1 else 3) << 2 * number for number in range(8))
    for register, value in (
        (x86.UC_X86_REG_FPCW, new.fcw),
        (x86.UC_X86_REG_FPSW, new.fsw),
        (x86.UC_X86_REG_FOP, new.opcode),
        (x86.UC_X86_REG_FIP, new.ip),
        (x86.UC_X86_REG_FDP, new.dp),
        (x86.UC_X86_REG_MXCSR, new.mxcsr),
    ):
        cpu.uc.reg_write(register, value)
    for number in range(8):
        mantissa, exponent = struct.unpack_from("<QH", new.fpr, 16 * number)
        cpu.uc.reg_write(x86.UC_X86_REG_FP0 + ((new.fsw >> 11) + number & 7), (mantissa, exponent))
    cpu.uc.reg_write(x86.UC_X86_REG_FPTAG, full)
    cpu.pull()
