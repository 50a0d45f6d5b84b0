"""Guests that go wrong as real ones do: a wild jump, smashed tables, a third fault, a second CPU started astray.

Each is firmware of 64 KiB, as in :mod:`guests.boot`, and says what it does. Some need more than one CPU.
"""

import struct
from typing import NamedTuple

from guests import boot

BEYOND = 0x4000_0000  # linear and physical: mapped by the tables, and no RAM of a small guest
UNMAPPED = 1 << 39  # linear: the second entry of the PML4 is empty
PAYLOAD_AP = 0xE000  # an AP's first code: one page, the table of the fourth GiB where there is no paging
MOVED = 0x20_0000  # code that runs in RAM above 1 MiB
SMI_ENTRY = 0x3_8000  # SMBASE + 8000, as a CPU has it at reset
LAPIC = 0xFEE0_0000
ZEROS = 0x50_0000  # RAM that nobody wrote


class Wild(NamedTuple):
    """A guest, and what QEMU must be asked for beside it."""

    name: str
    does: str
    image: bytes
    smp: int = 1
    memory: str = "16M"
    options: tuple[str, ...] = ()


def _firmware(
    code: boot._Code, *, patches: dict[int, bytes] | None = None, idt: int = boot.IDT, limit: int = 0
) -> bytes:
    """The code as firmware; ``patches`` are bytes of the payload by their address in RAM."""
    image = bytearray(boot._image(code, idt_base=idt, idt_limit=limit))
    for address, data in (patches or {}).items():
        at = boot.PAYLOAD_OFFSET + address - boot.ORIGIN
        image[at : at + len(data)] = data
    return bytes(image)


def _gates(handler: int, *, selector: int = boot.CODE64, flags: int = 0x8E00) -> bytes:
    """An IDT of 32 gates in 64-bit mode, all to one handler."""
    gate = struct.pack("<HHHHII", handler & 0xFFFF, selector, flags, handler >> 16, 0, 0)
    return gate * 32


def _long(*parts: str | bytes, lidt: bool = True) -> boot._Code:
    code = boot._long64()
    if lidt:
        boot._load_idt(code)
    code.emit(*parts)
    code.survive()
    return code


def _u64(value: int) -> bytes:
    return struct.pack("<Q", value)


_HANDLER = 0x8700  # one HLT, for gates that are never reached
_HALT = {_HANDLER: b"\xf4\xeb\xfd"}
_MOV_RAX = "48 b8"
_MOV_RSP = "48 bc"


def _with_handlers(*parts: str | bytes, patches: dict[int, bytes] | None = None) -> bytes:
    return _firmware(_long(*parts), patches={**_HALT, boot.IDT: _gates(_HANDLER), **(patches or {})}, limit=32 * 16 - 1)


# -- one CPU, 64-bit code --------------------------------------------------------------------------


def _triple_faults() -> tuple[Wild, ...]:
    """Every road to a shutdown begins with one exception that cannot be delivered."""
    empty = [
        ("triple-ud", "UD2 with an empty IDT", ("0f 0b",)),
        ("triple-pf", "a load from where no page is, with an empty IDT", (_MOV_RAX, _u64(UNMAPPED), "8b 00")),
        ("triple-gp", "a load from a non-canonical address, with an empty IDT", (_MOV_RAX, _u64(1 << 62), "8b 00")),
        ("triple-de", "a division by zero, with an empty IDT", ("31 c9 f7 f1",)),
        ("triple-int3", "INT3 with an empty IDT", ("cc",)),
        ("triple-cr3", "CR3 set to a page of zeros", (_MOV_RAX, _u64(ZEROS), "0f 22 d8")),
    ]
    guests = [Wild(name, does, _firmware(_long(*parts))) for name, does, parts in empty]
    absent = {boot.IDT: _gates(_HANDLER, flags=0x0E00)}
    guests += [
        Wild("triple-gate", "UD2, and no gate of the IDT is present", _with_handlers("0f 0b", patches=absent)),
        Wild(
            "triple-selector",
            "UD2, and the gates name selector 0",
            _with_handlers("0f 0b", patches={boot.IDT: _gates(_HANDLER, selector=0)}),
        ),
        Wild("triple-stack", "UD2 with the stack where no page is", _with_handlers(_MOV_RSP, _u64(UNMAPPED), "0f 0b")),
    ]
    reserved = {boot.PML4 + 8: _u64(boot.PDPT | 1 << 51 | 7)}
    guests.append(
        Wild(
            "triple-reserved",
            "a load through a page table with a reserved bit, with an empty IDT",
            _firmware(_long(_MOV_RAX, _u64(UNMAPPED), "8b 00"), patches=reserved),
        )
    )
    return tuple(guests)


def _tables() -> tuple[Wild, ...]:
    beyond = _u64(BEYOND)
    lidt = ("48 c7 c0", struct.pack("<I", 0x8680), "0f 01 18")  # lidt [0x8680]
    lgdt = ("48 c7 c0", struct.pack("<I", 0x8680), "0f 01 10")
    pointer = {0x8680: struct.pack("<HQ", 0xFFF, BEYOND)}
    tss = struct.pack("<HHBBBBQ", 0x67, BEYOND & 0xFFFF, BEYOND >> 16 & 0xFF, 0x89, 0, BEYOND >> 24 & 0xFF, 0)
    user = boot._long64()
    boot._user(user)
    user.emit("0f 0b")
    return (
        Wild("cr3-beyond", "CR3 set beyond RAM", _firmware(_long(_MOV_RAX, beyond, "0f 22 d8"))),
        Wild(
            "walk-beyond",
            "a load through page tables beyond RAM",
            _firmware(_long(_MOV_RAX, _u64(UNMAPPED), "8b 00"), patches={boot.PML4 + 8: _u64(BEYOND | 7)}),
        ),
        Wild("idt-beyond", "LIDT of an address beyond RAM, and UD2", _with_handlers(*lidt, "0f 0b", patches=pointer)),
        Wild("gdt-beyond", "LGDT of an address beyond RAM, and UD2", _with_handlers(*lgdt, "0f 0b", patches=pointer)),
        Wild("stack-beyond", "the stack beyond RAM, and UD2", _with_handlers(_MOV_RSP, _u64(BEYOND + 0x800), "0f 0b")),
        Wild(
            "tss-beyond",
            "a TSS beyond RAM, and UD2 at CPL 3",
            _firmware(
                user,
                patches={**_HALT, boot.IDT: _gates(_HANDLER), boot.GDT + boot.TASK: tss},
                limit=32 * 16 - 1,
            ),
        ),
    )


def _jumps() -> tuple[Wild, ...]:
    def to(address: int) -> bytes:
        return _firmware(_long(_MOV_RAX, _u64(address), "ff e0"))

    zero_ax = boot._long64()
    zero_ax.emit("bc", struct.pack("<I", boot.STACK), "48 c7 04 24", struct.pack("<I", ZEROS))  # mov [rsp], ZEROS
    zero_ax.emit("b8", struct.pack("<I", boot.RAM_OPERAND), "c3")  # eax: RAM, for ADD [RAX], AL
    return (
        Wild("jump-beyond", "a jump beyond RAM, with paging", to(BEYOND)),
        Wild("jump-vga", "a jump into the window of a VGA", to(0xB_8000)),
        Wild("off-the-end", "a jump to the last bytes of RAM, and on", to((16 << 20) - 1)),
        Wild("return-to-zeros", "RET to a page of zeros, and on to the end of RAM", _firmware(zero_ax)),
    )


def _devices() -> tuple[Wild, ...]:
    """SIMD and x87 on the memory of a VGA."""

    def on_vga(insn: str) -> bytes:
        return _firmware(_long("bb", struct.pack("<I", 0xA_0000), insn))

    return (
        Wild("paddd-vga", "PADDD from VGA memory", on_vga("66 0f fe 03")),
        Wild("fxsave-vga", "FXSAVE to VGA memory", on_vga("0f ae 03")),
        Wild("fld-vga", "FLD from VGA memory", on_vga("d9 03")),
        Wild("cmpxchg16b-vga", "LOCK CMPXCHG16B on VGA memory", on_vga("f0 48 0f c7 0b")),
    )


# -- several CPUs: 32-bit code, without paging -----------------------------------------------------


def _icr(command: int) -> bytes:
    """Write it to the local APIC's interrupt command register: ``mov dword [LAPIC + 0x300], command``."""
    return b"\xc7\x05" + struct.pack("<II", LAPIC + 0x300, command)


def _wait(loops: int = 200_000) -> bytes:
    return b"\xb9" + struct.pack("<I", loops) + b"\xe2\xfe"  # mov ecx, loops; loop $


_INIT_OTHERS, _SIPI_OTHERS, _SMI_OTHERS = 0xC4500, 0xC4600, 0xC4200
_ON = b"\xc7\x05" + struct.pack("<II", LAPIC + 0xF0, 0x1FF)  # the spurious vector register: the APIC is on


def _start_others(vector: int) -> bytes:
    return _ON + _icr(_INIT_OTHERS) + _wait() + _icr(_SIPI_OTHERS | vector) + _wait()


def _flat_ap(*parts: str) -> bytes:
    """What an AP runs from PAYLOAD_AP: into flat 32-bit code, then ``parts``."""
    code = bytearray(bytes.fromhex("fa 31 c0 8e d8 0f 01 16") + struct.pack("<H", boot.GDTR))
    code += bytes.fromhex("0f 20 c0 0c 01 0f 22 c0 66 ea")
    code += struct.pack("<IH", PAYLOAD_AP + len(code) + 6, boot.CODE32)
    code += bytes.fromhex("66 b8") + struct.pack("<H", boot.DATA32) + bytes.fromhex("8e d8 8e c0 8e d0")
    return bytes(code) + b"".join(map(bytes.fromhex, parts))


# mov edi, 3 MiB; 1: sti; mov [edi], edi; cli; add edi, 4096; cmp edi, 127 MiB; jb 1b; jmp $
_TOUCHES_BEHIND_STI = "bf 00 00 30 00 fb 89 3f fa 81 c7 00 10 00 00 81 ff 00 00 f0 07 72 ee eb fe"


def _out_pci(register: int, value: int) -> bytes:
    """A byte of the host bridge's configuration space, by ports cf8 and cfc."""
    address = 0x8000_0000 | register & 0xFC
    return (
        b"\xb8" + struct.pack("<I", address) + b"\x66\xba\xf8\x0c\xef"  # mov eax; mov dx, 0xcf8; out dx, eax
        + b"\xb0" + bytes([value]) + b"\x66\xba" + struct.pack("<H", 0xCFC + (register & 3)) + b"\xee"
    )  # fmt: skip


def _copy(to: int, data: bytes) -> bytes:
    """Lay data out in RAM, byte after byte: ``mov byte [to], n``."""
    return b"".join(b"\xc6\x05" + struct.pack("<IB", to + n, byte) for n, byte in enumerate(data))


def _several() -> tuple[Wild, ...]:
    spins = "b8" + struct.pack("<I", MOVED).hex() + "ff e0"  # mov eax, MOVED; jmp eax
    races = boot._prot32()
    races.emit(_copy(MOVED, b"\x40\xeb\xfd"), _start_others(PAYLOAD_AP >> 12))  # 1: inc eax; jmp 1b
    start = len(races.bytes)
    for value in (0x30, 0x00):  # i440FX: PAM0, the attributes of f0000-fffff; QEMU rearranges the slots around it
        races.emit(_out_pci(0x59, value))
    races.emit("e9", struct.pack("<i", start - len(races.bytes) - 5))

    def astray(prepared: bool) -> bytes:
        code = boot._prot32()
        if prepared:  # let it run in protected mode first, with CR2 and CR3 of its own
            code.emit(_start_others(PAYLOAD_AP >> 12))
        code.emit(_start_others(boot.LOW_HOLE >> 12), "f4 eb fd")
        ap = _flat_ap("b8 00 00 34 12 0f 22 d0 0f 22 d8 eb fe")  # mov eax, 0x12340000; mov cr2, eax; mov cr3, eax
        return _firmware(code, patches={PAYLOAD_AP: ap})

    smi = boot._prot32()
    smi.emit(_copy(SMI_ENTRY, b"\x0f\xaa"), _start_others(PAYLOAD_AP >> 12))
    smi.emit(_icr(_SMI_OTHERS), _wait(200), "eb", struct.pack("<b", -len(_icr(0) + _wait()) - 2))
    return (
        Wild("slot-race-1", "PAM0 rewritten while 1 AP runs in RAM above 1 MiB", _racing(races, spins), smp=2),
        Wild("slot-race-3", "PAM0 rewritten while 3 APs run in RAM above 1 MiB", _racing(races, spins), smp=4),
        Wild("ap-astray", "an AP is started at b0000, which is no RAM", astray(prepared=False), smp=2),
        Wild("ap-half-reset", "an AP that ran before is started at b0000: no RAM", astray(prepared=True), smp=2),
        Wild(
            "smi-in-sti-shadow",
            "SMIs come while an AP touches page after page right behind STI",
            _firmware(smi, patches={PAYLOAD_AP: _flat_ap(_TOUCHES_BEHIND_STI)}),
            smp=2,
            memory="128M",
        ),
    )


def _racing(code: boot._Code, spins: str) -> bytes:
    return _firmware(code, patches={PAYLOAD_AP: _flat_ap(spins)})


# -- firmware that begins with what real mode never had ---------------------------------------------


def _first(insn: str) -> bytes:
    """The instruction stands at the reset vector, before the jump: CS's base is not 16 times its selector there."""
    image = bytearray(boot._image(boot._prot32(), idt_base=boot.IDT, idt_limit=0))
    begin = bytes.fromhex(insn) + b"\xea\x00\x00\x00\xf0"
    image[0xFFF0 : 0xFFF0 + len(begin)] = begin
    return bytes(image)


def _firsts() -> tuple[Wild, ...]:
    return (
        Wild("endbr-first", "firmware whose first instruction is ENDBR32", _first("f3 0f 1e fb")),
        Wild("movd-first", "firmware whose first instruction is MOVD to an MMX register", _first("0f 6e c0")),
        Wild("pxor-first", "firmware whose first instruction is PXOR of an SSE register", _first("66 0f ef c0")),
    )


def _host() -> tuple[Wild, ...]:
    """One that touches page after page of its RAM, for ever: whatever the host takes away, it meets."""
    code = boot._prot32()
    code.emit("bf", struct.pack("<I", 1 << 20), "89 3f 81 c7 00 10 00 00 81 ff", struct.pack("<I", 64 << 20))
    code.emit("72 f0 eb e9")  # jb to the store; jmp to the start
    return (
        Wild(
            "touches-all",
            "a guest that writes to each page of its 64 MiB, again and again",
            _firmware(code),
            memory="64M",
        ),
    )


WILD: dict[str, Wild] = {
    guest.name: guest
    for group in (_triple_faults, _tables, _jumps, _devices, _several, _firsts, _host)
    for guest in group()
}
