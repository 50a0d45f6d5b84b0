"""Instructions and operand addresses, worked out by hand from the SDM's opcode map and vol. 1, 3.7.5."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvmwhy.arch.x86.instruction import Instruction, decode_first
from kvmwhy.arch.x86.mode import LONG64, PROT32, REAL16, Mode
from kvmwhy.arch.x86.operand import operand_address
from kvmwhy.record import Cpu, Segment

MODES = {16: REAL16, 32: PROT32, 64: LONG64}
GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
# rax = 0x1000, rcx = 0x2000, rdx = 0x3000, rbx = 0x4000, rsp = 0x5000 ... r15 = 0x10000
REGISTERS = {name: 0x1000 * (number + 1) for number, name in enumerate(GENERAL)}


def segment(base: int, *, big: bool) -> Segment:
    return Segment(base >> 4 & 0xFFFF, base, 0xFFFF_FFFF, 0x00C0_9300 if big else 0x9300)


def machine(bitness: int, **registers: int) -> Cpu:
    """DS at 0x10000, ES at 0x20000, SS at 0x30000, CS at 0x40000, FS at 0x50000, GS at 0x60000."""
    names = ("ds", "es", "ss", "cs", "fs", "gs")
    segments = {name: segment(0x1_0000 * (n + 1), big=bitness != 16) for n, name in enumerate(names)}
    return Cpu(registers={**REGISTERS, **registers}, segments=segments)


def decoded(code: str, bitness: int, address: int = 0x1000) -> Instruction:
    found = decode_first(bytes.fromhex(code), bitness=bitness, address=address)
    assert found is not None
    return found


# code, bitness, text, (segment, effective, linear, size, access) of each operand
CASES = [
    # 64-bit: DS, ES, SS and CS count as base 0
    ("480fae27", 64, "xsave64 [rdi]", [("ds", 0x8000, 0x8000, 0, "read-write")]),
    ("480fc76140", 64, "xsavec64 [rcx+0x40]", [("ds", 0x2040, 0x2040, 0, "write")]),
    ("d900", 64, "fld dword ptr [rax]", [("ds", 0x1000, 0x1000, 4, "read")]),
    ("c5fe6f00", 64, "vmovdqu ymm0,[rax]", [("ds", 0x1000, 0x1000, 32, "read")]),
    ("8b0500100000", 64, "mov eax,[0x2006]", [("ds", 0x2006, 0x2006, 4, "read")]),
    ("648b00", 64, "mov eax,fs:[rax]", [("fs", 0x1000, 0x5_1000, 4, "read")]),
    ("65488b042528000000", 64, "mov rax,gs:[0x28]", [("gs", 0x28, 0x6_0028, 8, "read")]),
    ("438b44d8fc", 64, "mov eax,[r8+r11*8-4]", [("ds", 0x6_8FFC, 0x6_8FFC, 4, "read")]),
    ("50", 64, "push rax", [("ss", 0x4FF8, 0x4FF8, 8, "write")]),
    ("c3", 64, "ret", [("ss", 0x5000, 0x5000, 8, "read")]),
    ("678b00", 64, "mov eax,[eax]", [("ds", 0x1000, 0x1000, 4, "read")]),
    ("488d4008", 64, "lea rax,[rax+8]", [("ds", 0x1008, 0x1008, 0, "none")]),
    ("660fe700", 64, "movntdq [rax],xmm0", [("ds", 0x1000, 0x1000, 16, "write")]),
    # 32-bit
    ("f30f6f4010", 32, "movdqu xmm0,[eax+0x10]", [("ds", 0x1010, 0x1_1010, 16, "read")]),
    ("8b45f8", 32, "mov eax,[ebp-8]", [("ss", 0x5FF8, 0x3_5FF8, 4, "read")]),
    ("a100c0fe00", 32, "mov eax,[0xfec000]", [("ds", 0xFE_C000, 0xFF_C000, 4, "read")]),
    ("678b07", 32, "mov eax,[bx]", [("ds", 0x4000, 0x1_4000, 4, "read")]),
    ("f3a5", 32, "rep movsd [edi],[esi]", [("es", 0x8000, 0x2_8000, 4, ""), ("ds", 0x7000, 0x1_7000, 4, "")]),
    ("f00fb108", 32, "lock cmpxchg [eax],ecx", [("ds", 0x1000, 0x1_1000, 4, "")]),
    ("ff30", 32, "push dword ptr [eax]", [("ds", 0x1000, 0x1_1000, 4, "read"), ("ss", 0x4FFC, 0x3_4FFC, 4, "write")]),
    ("f30f1efb", 32, "endbr32", []),
    # 16-bit
    ("2e833ec86100", 16, "cmp word ptr cs:[0x61c8],0", [("cs", 0x61C8, 0x4_61C8, 2, "read")]),
    ("8b00", 16, "mov ax,[bx+si]", [("ds", 0xB000, 0x1_B000, 2, "read")]),
    ("8b42fe", 16, "mov ax,[bp+si-2]", [("ss", 0xCFFE, 0x3_CFFE, 2, "read")]),
    ("a4", 16, "movsb [di],[si]", [("es", 0x8000, 0x2_8000, 1, "write"), ("ds", 0x7000, 0x1_7000, 1, "read")]),
    ("67668b0424", 16, "mov eax,[esp]", [("ss", 0x5000, 0x3_5000, 4, "read")]),
    ("ea5be000f0", 16, "jmp 0xf000:0xe05b", []),
    ("0faa", 16, "rsm", []),
    ("90", 16, "nop", []),
]


@pytest.mark.parametrize(("code", "bitness", "text", "operands"), CASES)
def test_text_and_operands(code: str, bitness: int, text: str, operands: list[tuple[str, int, int, int, str]]) -> None:
    """The instruction reads as the manual spells it and its operands lie where its rules put them."""
    found = decoded(code + "9090", bitness)
    assert found.text == text
    assert found.bytes == bytes.fromhex(code)
    assert (found.complete, found.invalid, found.length) == (True, False, len(code) // 2)
    cpu = machine(bitness)
    places = [operand_address(one, found, cpu, MODES[bitness]) for one in found.memory]
    assert [(p.segment, p.effective, p.linear, p.size) for p in places] == [one[:4] for one in operands]
    assert all(want in ("", place.access) for place, (*_, want) in zip(places, operands, strict=True))


def test_att_syntax() -> None:
    """AT&T syntax on request."""
    found = decode_first(bytes.fromhex("480fae27"), bitness=64, address=0, syntax="att")
    assert found is not None
    assert found.text == "xsave64 (%rdi)"


def test_16_bit_addresses_wrap_at_64_kib() -> None:
    """[bx+si] with BX=0xfff0 and SI=0x20 is offset 0x10; the upper halves of the registers do not count."""
    cpu = machine(16, rbx=0x1234_FFF0, rsi=0x5678_0020)
    found = decoded("8b00", 16)
    place = operand_address(found.memory[0], found, cpu, REAL16)
    assert (place.effective, place.linear) == (0x10, 0x1_0010)


def test_32_bit_linear_addresses_wrap_at_4_gib() -> None:
    """DS.base 0x10000 + 0xffffffff is linear 0xffff."""
    found = decoded("8b00", 32)
    place = operand_address(found.memory[0], found, machine(32, rax=0xFFFF_FFFF), PROT32)
    assert (place.effective, place.linear) == (0xFFFF_FFFF, 0xFFFF)


def test_push_uses_the_stack_segment_size() -> None:
    """SS.B decides between SP and ESP (SDM vol. 1, 6.2.3), not the code's size."""
    found = decoded("50", 32)
    cpu = machine(16, rsp=0x1_0002)
    place = operand_address(found.memory[0], found, cpu, PROT32)
    assert place.effective == 0xFFFE


def test_pop_to_a_stack_operand_counts_the_increment() -> None:
    """POP [rsp+8] computes its operand after the increment (SDM vol. 2B, POP)."""
    found = decoded("8f442408", 64)
    place = operand_address(found.memory[0], found, machine(64), LONG64)
    assert place.effective == 0x5000 + 8 + 8


def test_canonical() -> None:
    """Bits 63:47 must be equal with 4-level paging; bits 63:56 with 5-level paging."""
    found = decoded("8b00", 64)

    def canonical(**registers: int) -> bool | None:
        return operand_address(found.memory[0], found, machine(64, **registers), LONG64).canonical

    assert canonical(rax=0x7FFF_FFFF_FFFF) is True
    assert canonical(rax=0xFFFF_8000_0000_0000) is True
    assert canonical(rax=0x8000_0000_0000, cr4=0x20) is False
    assert canonical(rax=0x8000_0000_0000, cr4=0x1020) is True
    assert canonical(rax=0x8000_0000_0000) is None
    assert canonical(rax=0x1234_5678_9ABC_DEF0) is False


def test_missing_registers_leave_the_address_open() -> None:
    """Without the base register there is no address, and the answer says what was missing."""
    found = decoded("8b00", 32)
    place = operand_address(found.memory[0], found, Cpu(), PROT32)
    assert (place.effective, place.linear, place.missing) == (None, None, ("eax", "ds"))


def test_torn_and_invalid() -> None:
    """Bytes that end early are incomplete, not invalid; FF /7 is invalid; nothing is nothing."""
    torn = decoded("488b05", 64)
    assert (torn.complete, torn.invalid, torn.text, torn.mnemonic) == (False, False, None, "mov")
    unknown = decoded("0f", 64)
    assert (unknown.complete, unknown.mnemonic) == (False, None)
    invalid = decoded("ffff", 64)
    assert (invalid.complete, invalid.invalid, invalid.text) == (True, True, None)
    assert decode_first(b"", bitness=64, address=0) is None


def test_encodings() -> None:
    """VEX, EVEX, XOP and 3DNow! are told apart."""
    for code, encoding in (
        ("c5fe6f00", "vex"),
        ("62f17f486f00", "evex"),
        ("8fe97880c0", "xop"),
        ("0f0fc09e", "3dnow"),
    ):
        assert decoded(code, 64).encoding == encoding


def test_implicit_and_stack_operands_are_marked() -> None:
    """PUSH m has a spelt-out operand and a stack one; MOVS has two implicit ones, neither on the stack."""
    push = decoded("ff30", 32).memory
    assert [(one.implicit, one.stack) for one in push] == [(False, False), (True, True)]
    movs = decoded("a4", 32).memory
    assert [(one.implicit, one.stack) for one in movs] == [(True, False), (True, False)]
    assert decoded("8b0500100000", 64).memory[0].rip_relative


registers = st.dictionaries(
    st.sampled_from([*GENERAL, "rip", "cr0", "cr4", "efer", "rflags"]), st.integers(0, (1 << 64) - 1)
)
segments = st.dictionaries(
    st.sampled_from(["es", "cs", "ss", "ds", "fs", "gs"]),
    st.builds(Segment, *(st.integers(0, (1 << bits) - 1) for bits in (16, 64, 32, 24))),
)


@given(st.binary(max_size=15), st.sampled_from([16, 32, 64]), registers, segments)
@example(bytes.fromhex("c4e279920c00"), 64, {}, {})
def test_any_bytes_any_registers(code: bytes, bitness: int, printed: dict[str, int], shown: dict[str, Segment]) -> None:
    """No bytes and no set of missing registers raise, and no byte is reported that was not given."""
    mode: Mode = MODES[bitness]
    found = decode_first(code, bitness=bitness, address=printed.get("rip", 0))
    if found is None:
        assert not code
        return
    assert code.startswith(found.bytes)
    assert found.length == len(found.bytes) <= 15
    assert (found.text is None) == (found.invalid or not found.complete)
    cpu = Cpu(registers=printed, segments=shown)
    for one in found.memory:
        place = operand_address(one, found, cpu, mode)
        assert (place.effective is None) <= bool(place.missing)
        if place.linear is not None:
            assert place.linear < 1 << (64 if bitness == 64 else 32)
