"""Plans from any register state: never an error, and always a guest that says what the report says."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import dumps, internal_errors, other_heads, reports
from kvmwhy.abi.encode_page import ExitInfo, emulation_failure_words
from kvmwhy.readers import read
from kvmwhy.record import Code, Cpu, Emulation, Exit, Failure, Host, Segment
from kvmwhy.reproduce import Cannot, Plan, plan
from reproduce.walker import Read, U, walk

LONG = {"cr0": 0x80050033, "cr3": 0x1000000, "cr4": 0x20, "efer": 0xD01, "rflags": 2}


def cpu(registers: dict[str, int], *, cpl: int = 0, kind: str = "long64") -> Cpu:
    """A whole vCPU in this mode; ``registers`` are added to plain ones."""
    flat = 0x00C09300 | cpl << 13
    code = {"long64": 0x00A09B00, "prot32": 0x00C09B00, "real16": 0x9B00}[kind] | cpl << 13
    base = dict.fromkeys(("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "cr2", "cr3", "efer"), 0)
    base |= {f"r{n}": 0 for n in range(8, 16)} | {"rsp": 0x7000, "rflags": 2, "cr4": 0, "cr0": 0x11}
    if kind == "long64":
        base |= LONG
    if kind == "real16":
        base["cr0"], flat = 0x10, 0x9300
    segments = {name: Segment(0x10, 0, 0xFFFF_FFFF, flat) for name in ("es", "ss", "ds", "fs", "gs")}
    segments |= {"cs": Segment(0x18, 0, 0xFFFF_FFFF, code), "tr": Segment(0x20, 0x3000, 0x67, 0x8B00)}
    segments |= {
        "ldt": Segment(0, 0, 0xFFFF, 0),
        "gdt": Segment(0, 0x1000, 0x7F, 0),
        "idt": Segment(0, 0x2000, 0xFFF, 0),
    }
    return Cpu(registers={**base, **registers}, segments=segments, cpl=cpl)


def failure(
    insn: bytes, registers: dict[str, int], info: ExitInfo, *, cpl: int = 0, kind: str = "long64", window: bytes = b""
) -> Failure:
    """Suberror 1 with these words. ``insn`` empty: the fetch failed."""
    words = emulation_failure_words(info, insn=insn.ljust(15, b"\xf4") if insn else b"")
    code = Code(tuple(window), 0) if window else None
    return Failure(
        kind="internal-error",
        suberror=1,
        data=words,
        ndata=len(words),
        cpu=cpu(registers, cpl=cpl, kind=kind),
        code=code,
    )


def reader(made: Plan) -> Read:
    """The plan's memory, from its slots and contents alone."""

    def read_(gpa: int, size: int) -> bytes | None:
        if not any(m.gpa <= gpa and gpa + size <= m.gpa + m.size for m in made.memory):
            return None
        out = bytearray(size)
        for content in made.contents:
            for offset in range(size):
                if content.gpa <= gpa + offset < content.gpa + len(content.data):
                    out[offset] = content.data[gpa + offset - content.gpa]
        return bytes(out)

    return read_


def translated(made: Plan, linear: int) -> tuple[int, int] | None:
    registers = {name: getattr(made.sregs, name) for name in ("cr0", "cr3", "cr4", "efer")}
    return walk(reader(made), registers, linear)


def byte_at(made: Plan, linear: int) -> int | None:
    found = translated(made, linear)
    raw = None if found is None else reader(made)(found[0], 1)
    return None if raw is None else raw[0]


def sound(made: Plan) -> None:
    """What holds for every plan: slots are whole pages and disjoint, contents lie in them, holes do not."""
    ends = sorted((m.gpa, m.gpa + m.size) for m in made.memory)
    assert all(gpa % 0x1000 == 0 and end % 0x1000 == 0 and gpa < end for gpa, end in ends)
    assert all(first[1] <= second[0] for first, second in pairwise(ends))
    for content in made.contents:
        assert any(gpa <= content.gpa and content.gpa + len(content.data) <= end for gpa, end in ends)
    for hole in made.holes:
        if "read-only" not in hole.what:
            assert not any(gpa <= hole.gpa < end for gpa, end in ends), hole
    assert sum(end - gpa for gpa, end in ends) < 4 << 20


@settings(max_examples=60, deadline=None)
@given(reports(st.one_of(internal_errors(), other_heads())))
def test_any_report_gives_a_plan_or_a_reason(printed: object) -> None:
    """Whatever registers and words a log shows: a sound plan, or a sentence; never an exception."""
    for found in read(printed.text.encode()).failures:  # type: ignore[attr-defined]
        made = plan(found)
        if isinstance(made, Cannot):
            assert made.why
        else:
            sound(made)


words = st.integers(0, (1 << 64) - 1)


@settings(max_examples=60, deadline=None)
@given(dumps(), st.binary(min_size=15, max_size=15), st.sampled_from((0x30, 0x31, 0x400, 0x1000)), words, words)
def test_random_registers_with_an_instruction(
    dump: tuple[str, Cpu, Code], insn: bytes, reason: int, info1: int, info2: int
) -> None:
    """Suberror 1 of any state: the plan is sound, and nothing that is said to be missing is there."""
    data = emulation_failure_words(ExitInfo(reason, info1, info2), insn=insn)
    made = plan(Failure(kind="internal-error", suberror=1, data=data, ndata=len(data), cpu=dump[1], code=dump[2]))
    if isinstance(made, Plan):
        sound(made)


canonical = st.one_of(st.integers(0x10000, (1 << 47) - 0x2000), st.integers(0xFFFF_8000_0000_0000, (1 << 64) - 0x2000))


@settings(max_examples=80, deadline=None)
@given(canonical, canonical, st.integers(0x100000, (1 << 46) - 1), st.sampled_from((0, 3)))
def test_long_mode_addresses(rip: int, operand: int, page: int, cpl: int) -> None:
    """The page tables that are made lead RIP to the reported bytes, and the operand to the reported address."""
    gpa = page & -0x1000 | operand & 0xFFF
    if gpa >> 12 == LONG["cr3"] >> 12 or operand >> 12 in {rip >> 12, rip + 15 >> 12}:
        return
    insn = b"\xd9\x03"
    made = plan(failure(insn, {"rip": rip, "rbx": operand}, ExitInfo(0x400, 0x1_0000_0004, gpa), cpl=cpl))
    assert isinstance(made, Plan)
    sound(made)
    assert bytes(byte_at(made, rip + n) or 0 for n in range(2)) == insn
    found = translated(made, operand)
    assert found is not None
    assert found[0] == gpa
    assert reader(made)(found[0], 1) is None
    assert bool(found[1] & U) == (cpl == 3)
    assert made.holes[0].gpa == gpa
    assert made.cap204 == (cpl == 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0x10000, 0xFFFF_E000), st.integers(0, 0xFFFF_FFFF), st.sampled_from((1 << 4, 1 << 5)))
def test_32_bit_paging(rip: int, operand: int, cr4: int) -> None:
    """The same with two levels and with PAE: VMX names no address, so that any without memory will do."""
    if operand >> 12 in {rip >> 12, rip + 15 >> 12} or operand > 0xFFFF_F000:
        return
    registers = {"rip": rip, "rbx": operand, "cr0": 0x80000011, "cr3": 0x5000, "cr4": cr4}
    made = plan(failure(b"\xd9\x03", registers, ExitInfo(0x30, 0x181), kind="prot32"))
    assert isinstance(made, Plan)
    sound(made)
    assert byte_at(made, rip) == 0xD9
    found = translated(made, operand)
    assert found is not None
    assert found[0] & 0xFFF == operand & 0xFFF
    assert reader(made)(found[0], 1) is None


def test_the_guest_page_rights_of_a_qualification() -> None:
    """Bits 9 to 11 of an EPT qualification say what the guest's tables allow: here user, not writable, no-execute."""
    registers = {"rip": 0x400000, "rbx": 0x700000, "cr4": 0x20}
    made = plan(failure(b"\xd9\x03", registers, ExitInfo(0x30, 0x181 | 1 << 9 | 1 << 11)))
    assert isinstance(made, Plan)
    found = translated(made, 0x700000)
    assert found is not None
    assert found[1] & (1 << 63)
    assert found[1] & 7 == 5


def test_a_fetch_without_memory() -> None:
    """No bytes and a fetch: RIP's page is the hole, and without paging it is where it says."""
    words_ = (0, 0x30, 0x184, 0, 0, 0)
    made = plan(
        Failure(kind="internal-error", suberror=1, data=words_, ndata=6, cpu=cpu({"rip": 0xB0000}, kind="prot32"))
    )
    assert isinstance(made, Plan)
    assert [(h.what, h.linear, h.gpa) for h in made.holes] == [("the code", 0xB0000, 0xB0000)]


def test_an_instruction_cut_off_by_its_page() -> None:
    """Three of five bytes were read, up to the end of the page: the page behind is the hole."""
    insn = b"\x66\x0f\x70"
    words_ = emulation_failure_words(ExitInfo(0x400, 0x1_0000_0014, 0x9000), insn=insn)
    state = cpu({"rip": 0x8FFD}, kind="prot32")
    made = plan(Failure(kind="internal-error", suberror=1, data=words_, ndata=8, cpu=state))
    assert isinstance(made, Plan)
    assert [(h.linear, h.gpa) for h in made.holes] == [(0x9000, 0x9000)]
    assert bytes(byte_at(made, 0x8FFD + n) or 0 for n in range(3)) == insn


@pytest.mark.parametrize(
    ("registers", "gpa", "what"),
    [
        ({"rsp": 0x66008}, 0x66000, "the stack"),
        ({}, 0x20E0, "the IDT"),
        ({}, 0x3004, "the TSS"),
        ({}, 0x1018, "the GDT"),
    ],
)
def test_event_delivery(registers: dict[str, int], gpa: int, what: str) -> None:
    """Suberror 3: the structure at the reported address is in the hole, and the reported event is injected."""
    state = cpu({"rip": 0x8000, **registers}, kind="prot32")
    data = (0x80000B0E, 0x30, 0x181, gpa, 0)
    made = plan(Failure(kind="internal-error", suberror=3, data=data, ndata=5, cpu=state))
    assert isinstance(made, Plan)
    assert [(h.what, h.gpa) for h in made.holes] == [(what, gpa)]
    assert made.events is not None
    assert (made.events.exception_nr, made.events.exception_has_error_code) == (14, 1)


def test_a_page_table_without_memory() -> None:
    """A walk that met no memory: the operand's table lies at the reported address, all others do not."""
    operand = 0x7F12_3456_7000
    gpa = 0x8_8000_0000 | (operand >> 12 & 0x1FF) * 8
    made = plan(failure(b"\xd9\x03", {"rip": 0x400000, "rbx": operand}, ExitInfo(0x400, 0x2_0000_0006, gpa)))
    assert isinstance(made, Plan)
    asked: list[int] = []

    def read_(at: int, size: int) -> bytes | None:
        asked.append(at)
        return reader(made)(at, size)

    registers = {name: getattr(made.sregs, name) for name in ("cr0", "cr3", "cr4", "efer")}
    assert walk(read_, registers, operand) is None
    assert asked[-1] == gpa
    assert byte_at(made, 0x400000) == 0xD9


def test_a_known_page_is_touched_first() -> None:
    """EPT_MISCONFIG: KVM had met the page. The guest starts with a load from there, and ends up at RIP as it was."""
    registers = {"rip": 0x400000, "rbx": 0x700000, "rax": 0x1234}
    made = plan(failure(b"\xd9\x03", registers, ExitInfo(0x31)))
    assert isinstance(made, Plan)
    assert made.warm
    start = made.regs.rip
    code = bytes(byte_at(made, start + n) or 0 for n in range(25))
    assert code[:9] == b"\xa0" + (0x700000).to_bytes(8, "little")
    assert code[9:11] == b"\xb0\x34"
    assert code[11:25] == b"\xff\x25\0\0\0\0" + (0x400000).to_bytes(8, "little")


def test_registers_that_are_missing_are_chosen() -> None:
    """Bytes and words alone are enough: the operand's register is made to lead to the reported address."""
    insn = bytes.fromhex("480fc76140").ljust(15, b"\x90")
    words_ = emulation_failure_words(ExitInfo(0x400, 0x1_0000_0006, 0x4_A000_3140), insn=insn)
    made = plan(Failure(kind="internal-error", suberror=1, data=words_, ndata=8))
    assert isinstance(made, Plan)
    assert made.mode == "long64"
    assert made.regs.rcx + 0x40 == made.holes[0].linear
    assert made.holes[0].gpa == 0x4_A000_3140
    assert any("registers are not in the report" in text for text in made.assumed)


def test_a_trace_is_enough() -> None:
    """kvm_emulate_insn gives address, mode and bytes; with the capability, a silent #UD shows."""
    emulation = Emulation(rip=0x1234, cs_base=0x10000, insn=bytes.fromhex("d907"), mode="real16")
    made = plan(Failure(kind="internal-error", suberror=1, emulation=emulation, exit=Exit(reason=0x30), silent=True))
    assert isinstance(made, Plan)
    assert (made.mode, made.rip, made.cap204) == ("real16", 0x11234, True)
    assert byte_at(made, 0x11234) == 0xD9


def test_a_trace_that_stops_at_the_opcode() -> None:
    """The decoder of old kernels takes no more of a VEX instruction than two bytes: the operand is not shown."""
    emulation = Emulation(rip=0x1234, cs_base=0, insn=bytes.fromhex("c5fe"), mode="long64")
    made = plan(Failure(kind="other", emulation=emulation, silent=True))
    assert isinstance(made, Cannot)
    assert made.missing == ("the whole instruction",)


def test_a_silent_failure_of_a_trace() -> None:
    """KVM told nobody: what is expected is what the capability would have made it tell, with the exit's words."""
    emulation = Emulation(rip=0x401000, cs_base=0, insn=bytes.fromhex("d903"), mode="long64")
    seen = Exit(reason=0x400, info1=0x1_0000_0004, info2=0xFED0_0040, intr_info=0, error_code=0, isa="svm")
    made = plan(Failure(kind="other", emulation=emulation, exit=seen, silent=True))
    assert isinstance(made, Plan)
    assert made.cap204
    assert made.holes[0].gpa == 0xFED0_0040
    assert (made.expected.suberror, made.expected.words[:3]) == (1, (0x400, 0x1_0000_0004, 0xFED0_0040))


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (Failure(kind="internal-error", suberror=1), ("the registers", "the instruction bytes")),
        (Failure(kind="entry-failure", hardware_error=0x80000021), ("the registers", "the segments")),
        (Failure(kind="internal-error", suberror=3), ("the words of the internal error",)),
        (Failure(kind="shutdown"), ("the registers",)),
    ],
)
def test_what_is_missing_is_named(found: Failure, missing: tuple[str, ...]) -> None:
    """A report that shows too little is told what it lacks."""
    made = plan(found)
    assert isinstance(made, Cannot)
    assert made.missing == missing


@pytest.mark.parametrize(
    "found",
    [
        Failure(kind="entry-failure", hardware_error=7, cpu=cpu({"rip": 0})),
        Failure(kind="run-error", errno="EFAULT"),
        Failure(kind="internal-error", suberror=4, data=(0x33,), ndata=1),
        Failure(kind="internal-error", suberror=2, data=(0x80000008, 0x80000B08), ndata=2),
        Failure(kind="internal-error", suberror=3, data=(0x8000002F, 0x20, 0, 6), ndata=4, cpu=cpu({"rip": 0})),
    ],
)
def test_what_no_guest_can_do_is_not_tried(found: Failure) -> None:
    """Where the cause is not in the guest, that is said, and nothing is asked for."""
    made = plan(found)
    assert isinstance(made, Cannot)
    assert made.missing == ()


def test_an_entry_failure_is_loaded_as_it_is() -> None:
    """The refused state itself is the question: nothing of it may be changed to please the machine."""
    state = cpu({"rip": 0x8000, "cr4": 0x2020}, kind="long64")
    made = plan(Failure(kind="entry-failure", hardware_error=0x80000021, cpu=state, host=Host(kernel="6.1")))
    assert isinstance(made, Plan)
    assert made.exact
    assert made.sregs.cr4 == 0x2020


@given(st.text(max_size=40))
def test_text_of_a_log_never_enters_a_plan(text: str) -> None:
    """A plan is numbers and sentences of our own."""
    found = failure(b"\xd9\x03", {"rip": 0x400000, "rbx": 0x700000}, ExitInfo(0x30, 0x181))
    found = msgspec.structs.replace(found, host=Host(kernel=text, qemu=text))
    assert plan(found) == plan(msgspec.structs.replace(found, host=Host()))
