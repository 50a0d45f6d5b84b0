"""Tiny guests that fail on purpose: 64 KiB firmware images, assembled here byte by byte.

An image starts at the reset vector, copies its payload into RAM at `ORIGIN`, enters the mode under
test, and executes one instruction that KVM cannot carry out. No SeaBIOS, no boot disk: a run is over
in a fraction of a second. A guest that its failing instruction does *not* stop says so through
QEMU's pvpanic port (QEMU then pauses with the status `guest-panicked`) and halts.
"""

import struct
from typing import Literal, NamedTuple

Mode = Literal["real16", "prot32", "long64"]
Access = Literal["read", "write", "fetch", "event-delivery"]
Ending = Literal["internal-error", "repeating", "running", "shutdown", "guest-panicked"]

IMAGE_SIZE = 0x10000
PAYLOAD_OFFSET = 0x1000  # in the image
ORIGIN = 0x8000  # of the payload in RAM; everything runs with CS.base 0, so RIP is linear
PAYLOAD_SIZE = 0x7000
STACK = 0x7000
GDT, GDTR, IDTR, TSS, IDT = 0x8800, 0x8880, 0x8890, 0x8900, 0x8A00
PML4, PDPT, PD = 0x9000, 0xA000, 0xB000  # PD: four pages, 4 GiB of 2 MiB identity pages
HOLE = 0xD0000000  # neither RAM nor a device on QEMU's pc with 16 MiB
LOW_HOLE = 0xB0000  # below 1 MiB: in the window of a VGA that no firmware has set up
RAM_OPERAND = 0x100000
PVPANIC_PORT = 0x505

CODE32, DATA32, CODE64, TASK = 0x08, 0x10, 0x18, 0x30
USER_CODE64, USER_DATA = 0x20 | 3, 0x28 | 3
UD = 6  # vector of #UD


class Guest(NamedTuple):
    """One guest and what it is built to do. What KVM says about it is measured, not promised here."""

    name: str
    summary: str
    image: bytes
    mode: Mode
    cpl: int
    rip: int  # linear address where it fails: of the instruction, or of the byte that cannot be fetched
    insn: bytes  # empty where the fetch itself fails
    access: Access | None
    gpa: int | None  # the first byte that the access touches
    endings: frozenset[Ending]  # all that some KVM may make of it
    memory: str = "16M"


class _Code:
    """Bytes being laid out at ORIGIN; `fail` lays out the instruction under test and notes where."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.bytes = bytearray()
        self.rip = 0
        self.insn = b""

    @property
    def here(self) -> int:
        return ORIGIN + len(self.bytes)

    def emit(self, *parts: str | bytes) -> None:
        """Text is hex."""
        for part in parts:
            self.bytes += bytes.fromhex(part) if isinstance(part, str) else part

    def fail(self, text: str) -> None:
        self.rip, self.insn = self.here, bytes.fromhex(text)
        self.bytes += self.insn

    def load_bx(self, value: int) -> None:
        """Mov bx, ebx or rbx: the immediate is zero-extended in 64-bit mode."""
        self.emit("bb", _u16(value) if self.bits == 16 else _u32(value))

    def survive(self) -> None:
        """Say `not stopped`, then halt."""
        self.emit("b0 01")  # mov al, 1 (panicked)
        self.emit("ba" if self.bits == 16 else "66 ba", _u16(PVPANIC_PORT))  # mov dx, PVPANIC_PORT
        self.emit("ee")  # out dx, al
        self.emit("f4 eb fd")  # 1: hlt; jmp 1b


def _u16(value: int) -> bytes:
    return struct.pack("<H", value)


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def _real16() -> _Code:
    code = _Code(16)
    code.emit("31 c0 8e d8")  # xor ax, ax; mov ds, ax
    code.emit("db e3")  # fninit
    return code


def _prot32() -> _Code:
    """Flat segments, no paging."""
    code = _Code(32)
    code.emit("31 c0 8e d8")  # xor ax, ax; mov ds, ax (still 16-bit)
    code.emit("0f 01 16", _u16(GDTR))  # lgdt [GDTR]
    code.emit("0f 20 c0 0c 01 0f 22 c0")  # mov eax, cr0; or al, 1 (PE); mov cr0, eax
    code.emit("66 ea", _u32(code.here + 8), _u16(CODE32))  # jmp dword CODE32:next
    code.emit("66 b8", _u16(DATA32))  # mov ax, DATA32
    code.emit("8e d8 8e c0 8e d0 8e e0 8e e8")  # mov ds/es/ss/fs/gs, ax
    code.emit("bc", _u32(STACK))  # mov esp, STACK
    code.emit("0f 20 e0 0d", _u32(0x600), "0f 22 e0")  # CR4 |= OSFXSR | OSXMMEXCPT
    code.emit("db e3")  # fninit
    return code


def _long64() -> _Code:
    """Everything below 4 GiB identity-mapped by 2 MiB pages, writable and executable."""
    code = _prot32()
    code.bits = 64
    code.emit("0f 20 e0 83 c8 20 0f 22 e0")  # CR4 |= PAE
    code.emit("b8", _u32(PML4), "0f 22 d8")  # mov eax, PML4; mov cr3, eax
    code.emit("b9", _u32(0xC0000080), "0f 32")  # mov ecx, EFER; rdmsr
    code.emit("0d", _u32(0x100), "0f 30")  # or eax, LME; wrmsr
    code.emit("0f 20 c0 0d", _u32(0x80000000), "0f 22 c0")  # CR0 |= PG
    code.emit("ea", _u32(code.here + 7), _u16(CODE64))  # jmp CODE64:next
    return code


def _enable_xsave(code: _Code) -> None:
    """Let CR4.OSXSAVE on and XCR0 = x87 | SSE | AVX; leaves EDX:EAX = 7, the mask XSAVE wants."""
    code.emit("0f 20 e0 0d", _u32(0x40000), "0f 22 e0")  # CR4 |= OSXSAVE
    code.emit("31 c9 31 d2")  # xor ecx, ecx; xor edx, edx
    code.emit("b8", _u32(7), "0f 01 d1")  # mov eax, 7; xsetbv


def _image(code: _Code, *, idt_base: int, idt_limit: int) -> bytes:
    payload = bytearray(PAYLOAD_SIZE)

    def put(address: int, data: bytes) -> None:
        payload[address - ORIGIN : address - ORIGIN + len(data)] = data

    assert len(code.bytes) <= GDT - ORIGIN
    put(ORIGIN, bytes(code.bytes))
    descriptors = [
        0,
        0x00CF9B000000FFFF,  # 08 code, 32-bit
        0x00CF93000000FFFF,  # 10 data
        0x00AF9B000000FFFF,  # 18 code, 64-bit
        0x00AFFB000000FFFF,  # 20 code, 64-bit, DPL 3
        0x00CFF3000000FFFF,  # 28 data, DPL 3
        0x0000890000000067 | TSS << 16,  # 30 available TSS,
        0,  # 38 its upper half (long mode)
    ]
    put(GDT, b"".join(map(_u64, descriptors)))
    put(GDTR, _u16(len(descriptors) * 8 - 1) + _u32(GDT) + bytes(4))
    put(IDTR, _u16(idt_limit) + _u64(idt_base))
    put(TSS + 4, _u64(STACK))  # RSP0
    # Accessed (20), dirty (40), user, writable and present (07): no walk has anything to write back.
    put(PML4, _u64(PDPT | 0x27))
    put(PDPT, b"".join(_u64(PD + i * 0x1000 | 0x27) for i in range(4)))
    put(PD, b"".join(_u64(i << 21 | 0xE7) for i in range(2048)))  # 80: 2 MiB page

    image = bytearray(b"\xf4" * IMAGE_SIZE)
    stub = _Code(16)
    stub.emit("fa fc")  # cli; cld
    stub.emit("31 c0 8e c0 8e d0")  # xor ax, ax; mov es, ax; mov ss, ax
    stub.emit("bc", _u16(STACK))  # mov sp, STACK
    stub.emit("b8 00 f0 8e d8")  # mov ax, 0xf000; mov ds, ax
    stub.emit("be", _u16(PAYLOAD_OFFSET))  # mov si, PAYLOAD_OFFSET
    stub.emit("bf", _u16(ORIGIN))  # mov di, ORIGIN
    stub.emit("b9", _u16(PAYLOAD_SIZE // 2), "f3 a5")  # mov cx, words; rep movsw
    stub.emit("ea", _u16(ORIGIN), _u16(0))  # jmp 0:ORIGIN
    image[: len(stub.bytes)] = stub.bytes
    image[PAYLOAD_OFFSET : PAYLOAD_OFFSET + PAYLOAD_SIZE] = payload
    image[0xFFF0:0xFFF5] = bytes.fromhex("ea 00 00 00 f0")  # the reset vector: jmp 0xf000:0
    return bytes(image)


def _guest(
    name: str,
    summary: str,
    code: _Code,
    *endings: Ending,
    access: Access | None,
    gpa: int | None,
    cpl: int = 0,
    idt_base: int = IDT,
    idt_limit: int = 0,
) -> Guest:
    mode: Mode = "real16" if code.bits == 16 else "prot32" if code.bits == 32 else "long64"
    image = _image(code, idt_base=idt_base, idt_limit=idt_limit)
    return Guest(name, summary, image, mode, cpl, code.rip, code.insn, access, gpa, frozenset(endings))


def _load_idt(code: _Code) -> None:
    code.emit("0f 01 1c 25" if code.bits == 64 else "0f 01 1d", _u32(IDTR))  # lidt IDTR


def _data_access(code: _Code, name: str, insn: str, text: str, access: Access, *more: Ending) -> Guest:
    """One instruction whose memory operand, (%bx), is in the hole."""
    if code.bits == 16:
        code.emit("b8", _u16(LOW_HOLE >> 4), "8e d8")  # mov ax, LOW_HOLE >> 4; mov ds, ax
        code.load_bx(0)
    else:
        code.load_bx(HOLE)
    code.fail(insn)
    code.survive()
    gpa = LOW_HOLE if code.bits == 16 else HOLE
    summary = f"{text} on an address where there is no memory"
    return _guest(name, summary, code, "internal-error", *more, access=access, gpa=gpa)


def _ram_access(code: _Code, name: str, insn: str, text: str) -> Guest:
    """The control: KVM has no business here, unless it emulates everything the guest does."""
    code.load_bx(RAM_OPERAND)
    code.fail(insn)
    code.survive()
    summary = f"{text} on RAM: fails only where KVM emulates all code of this privilege level"
    return _guest(name, summary, code, "internal-error", "guest-panicked", access="read", gpa=RAM_OPERAND)


def _jump(code: _Code, name: str) -> Guest:
    target = LOW_HOLE if code.bits == 16 else HOLE
    if code.bits == 16:
        code.emit("ea", _u16(0), _u16(LOW_HOLE >> 4))  # jmp LOW_HOLE >> 4:0
    else:
        code.load_bx(HOLE)
        code.emit("ff e3")  # jmp *%ebx or *%rbx
    code.survive()
    code.rip = target
    summary = "jumps to an address where there is no memory"
    return _guest(name, summary, code, "internal-error", access="fetch", gpa=target)


def _idt_in_hole(code: _Code, name: str, insn: str, text: str, vector: int) -> Guest:
    _load_idt(code)
    code.fail(insn)
    code.survive()
    gate = 8 if code.bits == 32 else 16
    return _guest(
        name,
        f"{text} with the IDT where there is no memory",
        code,
        "internal-error",
        "shutdown",
        access="event-delivery",
        gpa=HOLE + vector * gate,
        idt_base=HOLE,
        idt_limit=256 * gate - 1,
    )


def _triple_fault(code: _Code, name: str) -> Guest:
    _load_idt(code)  # its limit is 0
    code.fail("0f 0b")  # ud2
    code.survive()
    summary = "ud2 with an empty IDT: #UD, #GP, #DF, shutdown"
    return _guest(name, summary, code, "shutdown", access=None, gpa=None)


def _user(code: _Code) -> int:
    """Enter CPL 3 with an IDT loaded; the address of a handler that says `not stopped`."""
    _load_idt(code)
    code.emit("66 b8", _u16(TASK), "0f 00 d8")  # mov ax, TASK; ltr ax
    code.emit("eb 0a")  # jmp over the handler
    handler = code.here
    code.survive()
    assert code.here == handler + 10
    code.emit("6a", bytes([USER_DATA]))  # push $USER_DATA (SS)
    code.emit("68", _u32(STACK - 0x100))  # push $user stack (RSP)
    code.emit("6a 02")  # push $2 (RFLAGS)
    code.emit("6a", bytes([USER_CODE64]))  # push $USER_CODE64 (CS)
    code.emit("68", _u32(code.here + 7))  # push $next (RIP)
    code.emit("48 cf")  # iretq
    return handler


def _handle_ud(guest: Guest, handler: int) -> Guest:
    gate = _u16(handler) + _u16(CODE64) + _u16(0x8E00) + bytes(10)
    at = PAYLOAD_OFFSET + IDT - ORIGIN + UD * 16
    return guest._replace(image=guest.image[:at] + gate + guest.image[at + len(gate) :])


def _user_access(name: str, insn: str, text: str, access: Access) -> Guest:
    """Stock KVM gives #UD to a guest in user mode and tells nobody; the guest handles it."""
    code = _long64()
    _enable_xsave(code)
    handler = _user(code)
    code.load_bx(HOLE)
    code.emit("b8", _u32(7))  # mov eax, 7 (with EDX = 0, what XSAVE is to save)
    code.fail(insn)
    code.emit("0f 0b")  # ud2, should `insn` have worked
    guest = _guest(
        name,
        f"{text} at CPL 3 on an address where there is no memory; the guest handles #UD",
        code,
        "repeating",
        "guest-panicked",
        access=access,
        gpa=HOLE,
        cpl=3,
        idt_limit=(UD + 1) * 16 - 1,
    )
    return _handle_ud(guest, handler)


def _user_jump(name: str) -> Guest:
    code = _long64()
    handler = _user(code)
    code.load_bx(HOLE)
    code.emit("ff e3")  # jmp *%rbx
    code.rip = HOLE
    guest = _guest(
        name,
        "jumps at CPL 3 to an address where there is no memory; the guest handles #UD",
        code,
        "repeating",
        "guest-panicked",
        access="fetch",
        gpa=HOLE,
        cpl=3,
        idt_limit=(UD + 1) * 16 - 1,
    )
    return _handle_ud(guest, handler)


def _user_idt_in_hole(name: str, insn: str, text: str, vector: int) -> Guest:
    code = _long64()
    _user(code)
    code.fail(insn)
    return _guest(
        name,
        f"{text} at CPL 3 with the IDT where there is no memory",
        code,
        "internal-error",
        "repeating",
        "running",  # kvm-amd of 5.10 and 6.1 tries over and over, without an exit
        "shutdown",
        access="event-delivery",
        gpa=HOLE + vector * 16,
        cpl=3,
        idt_base=HOLE,
        idt_limit=256 * 16 - 1,
    )


def _with_xsave(code: _Code) -> _Code:
    _enable_xsave(code)
    return code


def _all() -> tuple[Guest, ...]:
    return (
        _data_access(_real16(), "real16-flds", "d9 07", "flds (%bx)", "read"),
        _data_access(_real16(), "real16-fsts", "d9 17", "fsts (%bx)", "write"),
        _jump(_real16(), "real16-jump"),
        _data_access(_prot32(), "prot32-flds", "d9 03", "flds (%ebx)", "read"),
        _data_access(_prot32(), "prot32-fsts", "d9 13", "fsts (%ebx)", "write"),
        _data_access(_with_xsave(_prot32()), "prot32-xsave", "0f ae 23", "xsave (%ebx)", "write"),
        _jump(_prot32(), "prot32-jump"),
        _idt_in_hole(_prot32(), "prot32-idt-ud2", "0f 0b", "ud2", 6),
        _idt_in_hole(_prot32(), "prot32-idt-int3", "cc", "int3", 3),
        _triple_fault(_prot32(), "prot32-triple-fault"),
        _data_access(_long64(), "long64-flds", "d9 03", "flds (%rbx)", "read"),
        _ram_access(_long64(), "long64-flds-ram", "d9 03", "flds (%rbx)"),
        _data_access(_long64(), "long64-fsts", "d9 13", "fsts (%rbx)", "write"),
        _data_access(_with_xsave(_long64()), "long64-xsave64", "48 0f ae 23", "xsave64 (%rbx)", "write"),
        _data_access(
            _with_xsave(_long64()),
            "long64-vmovdqu",
            "c5 fe 6f 03",
            "vmovdqu (%rbx), %ymm0",
            "read",
            "guest-panicked",  # KVM moves VEX operands since 6.19
        ),
        _jump(_long64(), "long64-jump"),
        _idt_in_hole(_long64(), "long64-idt-ud2", "0f 0b", "ud2", 6),
        _idt_in_hole(_long64(), "long64-idt-int3", "cc", "int3", 3),
        _triple_fault(_long64(), "long64-triple-fault"),
        _user_access("long64-cpl3-flds", "d9 03", "flds (%rbx)", "read"),
        _user_access("long64-cpl3-fsts", "d9 13", "fsts (%rbx)", "write"),
        _user_access("long64-cpl3-xsave64", "48 0f ae 23", "xsave64 (%rbx)", "write"),
        _user_access("long64-cpl3-vmovdqu", "c5 fe 6f 03", "vmovdqu (%rbx), %ymm0", "read"),
        _user_jump("long64-cpl3-jump"),
        _user_idt_in_hole("long64-cpl3-idt-ud2", "0f 0b", "ud2", 6),
        _user_idt_in_hole("long64-cpl3-idt-int3", "cc", "int3", 3),
    )


GUESTS: dict[str, Guest] = {guest.name: guest for guest in _all()}
