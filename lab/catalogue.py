"""The cases of the lab: instruction forms × modes × CPL × capability × the way that leads to no memory.

    python -m lab.catalogue FILE    writes the bundle to FILE, and what it says in words to FILE.json

The same cases in the same order every time: an id, once given, keeps its meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from kvmwhy.machine.x86.state import Events, Regs, Segment, replace
from lab import forms, layout
from lab.cases import Access, Case, Facts, Mode, describe, pack_all
from lab.forms import Form
from lab.layout import CODE, DATA, ENTRY, HOLE, HOLE16, RAM_SIZE, READONLY, WORD, Image

MAIN: Final[tuple[Mode, ...]] = ("long64", "prot32", "real16")
MODES: Final[tuple[Mode, ...]] = (*MAIN, "compat32", "prot16")
_UNMAPPED: Final = 0x40000000  # linear, and no page table has an entry for it

# A few of each kind, for what is crossed with many modes, levels and ways.
_FEW: Final = tuple(
    forms.BY_NAME[name]
    for name in (
        *("flds", "fstps", "fnstenv", "xsave", "xrstor", "fxsave", "ldmxcsr", "addps", "paddd", "pshufd", "movss-st"),
        *("vmovdqu-ymm", "vmovdqu-ymmst", "vaddps", "andn", "popcnt", "crc32", "cmpxchg16b", "xlat", "movups"),
        *("movdqa-st", "mov-load", "mov-store", "add-store", "movnti", "fnstcw", "call-m", "push-m"),
    )
)
_STORES: Final = tuple(
    forms.BY_NAME[name]
    for name in (
        *("fstps", "fnstenv", "xsave", "fxsave", "stmxcsr", "movss-st", "movntps", "vmovdqu-ymmst", "cmpxchg16b"),
        *("mov-store", "mov-imm8", "add-store", "xchg", "movups-st", "movnti", "fnstcw", "setz"),
    )
)


class Guest:
    """A case in the making: put code and state together, then ``case()``."""

    def __init__(self, mode: Mode, cpl: int = 0) -> None:
        self.mode: Mode = mode
        self.cpl = cpl
        self.image = Image(mode)
        self.sregs = layout.sregs(mode, cpl)
        self.regs = layout.regs(mode, cpl)
        self.events: Events | None = None
        self.xcr0 = layout.XCR0
        self.failures = 1

    @property
    def hole(self) -> int:
        return HOLE16 if self.mode == "real16" else HOLE

    @property
    def end(self) -> bytes:
        """What stands behind the code: HLT, or at CPL 3, where that is #GP, OUT to the port that stops it."""
        return (b"\xe6\xee" if self.cpl else b"") + b"\xf4" * 32

    def set(self, **values: int) -> None:
        self.regs = replace(self.regs, **values)

    def set_sregs(self, **values: Any) -> None:
        self.sregs = replace(self.sregs, **values)

    def change(self, segment: str, **values: int) -> None:
        """Fields of one segment register or descriptor table."""
        self.set_sregs(**{segment: replace(getattr(self.sregs, segment), **values)})

    def code(self, data: bytes, at: int = ENTRY, *, end: bool = True) -> None:
        self.image.put(at, data + (self.end if end else b""))

    def start(self, at: int) -> None:
        self.set(rip=at - CODE if self.mode == "real16" else at)

    def point(self, address: int, offset: int = 0) -> None:
        """Let BX and the data segments lead to ``address``."""
        if self.mode == "real16":
            for name in ("ds", "fs", "gs"):
                self.sregs = layout.with_segment(self.sregs, name, address)
            self.sregs = layout.with_segment(self.sregs, "es", DATA)
            self.set(rbx=offset, rsi=offset, rdi=offset)
        elif self.mode == "prot16":  # offsets have 16 bits: the base leads there
            data = replace(self.sregs.ds, base=address)
            self.set_sregs(ds=data, fs=data, gs=data, es=replace(data, base=DATA))
            self.set(rbx=offset, rsi=offset, rdi=offset)
        else:
            self.set(rbx=address + offset, rsi=address + offset, rdi=DATA)

    def prepare(self) -> None:
        """Registers that an instruction may want: a mask for XSAVE, a count, values to be told apart."""
        self.set(rax=7, rcx=4, rdx=0, rbp=0)

    def case(
        self,
        group: str,
        name: str,
        about: str,
        *,
        insn: bytes = b"",
        text: str = "",
        at: int = ENTRY,
        access: Access = "none",
        gpa: int | None = None,
        cap204: bool = False,
        timeout_ms: int = 200,
    ) -> Case:
        capability = "cap204" if cap204 else "stock"
        facts = Facts(
            *(group, about, self.mode, self.cpl, cap204, text, insn.hex(), at, access, gpa),
            needs=forms.needs(insn, self.mode) if insn else (),
        )
        return Case(
            f"{self.mode}/{self.cpl}/{capability}/{group}/{name}",
            *(layout.MEMORY, self.image.chunks(), self.regs, self.sregs, self.events),
            xcr0=self.xcr0,
            cap204=cap204,
            failures=self.failures,
            timeout_ms=timeout_ms,
            facts=facts,
        )


def _where(mode: Mode, cpl: int) -> str:
    name = {
        "real16": "real mode",
        "prot16": "16-bit protected mode",
        "prot32": "32-bit protected mode without paging",
        "compat32": "32-bit code under long mode",
        "long64": "64-bit mode",
    }[mode]
    return f"{name}, CPL {cpl}"


def _levels(mode: Mode) -> tuple[int, ...]:
    return (0,) if mode in {"real16", "prot16"} else (0, 3)


def _in(mode: Mode, table: tuple[Form, ...]) -> Iterator[Form]:
    return (form for form in table if WORD[mode] in form.words)


def _operand(
    mode: Mode,
    form: Form,
    *,
    cpl: int = 0,
    cap204: bool = False,
    group: str = "data",
    target: int | None = None,
    how: str = "has no memory",
    before: str = "",
    failures: int = 1,
) -> Case:
    """One instruction whose operand is at BX; ``before``: a form that goes first, to the same address."""
    guest = Guest(mode, cpl)
    guest.prepare()
    guest.failures = failures
    guest.point(guest.hole if target is None else target)
    first = forms.BY_NAME[before].encode(mode) if before else b""
    insn = form.encode(mode)
    guest.code(first + insn)
    about = f"{form.say(mode)}, {_where(mode, cpl)}: the operand {how}"
    no_memory = guest.hole if target is None else target if target == READONLY else None
    return guest.case(
        *(group, form.name, about),
        insn=insn,
        text=form.say(mode),
        at=ENTRY + len(first),
        access=form.access,
        gpa=no_memory,
        cap204=cap204,
    )


def _data() -> Iterator[Case]:
    """An operand without memory: every form at CPL 0, then what depends on privilege and capability."""
    for mode in MAIN:
        for form in _in(mode, (*forms.UNHANDLED, *forms.MOVES, *forms.PLAIN, *forms.SYSTEM, *forms.EVEX)):
            yield _operand(mode, form)
    for mode in ("compat32", "prot16"):
        for form in _in(mode, _FEW):
            yield _operand(mode, form)
    for mode in MODES:
        for form in _in(mode, _FEW):
            yield _operand(mode, form, cap204=True)
            if 3 in _levels(mode):
                yield _operand(mode, form, cpl=3)
                yield _operand(mode, form, cpl=3, cap204=True)


def _cached() -> Iterator[Case]:
    """A plain load goes first and is answered, so that KVM knows the page as MMIO by then."""
    for mode in MODES:
        for form in _in(mode, _FEW):
            how = "has no memory, and a load from there was answered before"
            yield _operand(mode, form, group="cached", how=how, before="mov-load")
    for form in _FEW:
        how = "has no memory, and a load from there was answered before"
        yield _operand("long64", form, cpl=3, group="cached", how=how, before="mov-load")


def _controls() -> Iterator[Case]:
    """The same on RAM: the CPU does it, KVM is not asked."""
    for mode in MODES:
        for cpl in _levels(mode):
            for form in _in(mode, _FEW):
                yield _operand(mode, form, cpl=cpl, group="ram", target=DATA, how="is RAM")
    for mode in MAIN:
        for name, code, text in (
            ("nop", "90", "nop"),
            ("endbr64", "f3 0f 1e fa", "endbr64"),
            ("cpuid", "0f a2", "cpuid"),
            ("in", "e4 60", "in $0x60, %al"),
            ("out", "e6 80", "out %al, $0x80"),
            ("int", "cd 21", "int $0x21"),
            ("int3", "cc", "int3"),
            ("ud2", "0f 0b", "ud2"),
            ("hlt", "f4", "hlt"),
        ):
            for cpl in _levels(mode):
                guest = Guest(mode, cpl)
                guest.code(bytes.fromhex(code))
                about = f"{text}, {_where(mode, cpl)}: no memory is involved"
                yield guest.case("ram", name, about, insn=bytes.fromhex(code), text=text)


def _readonly() -> Iterator[Case]:
    """Stores to a read-only slot, of a page that was never touched and of one that was read."""
    for mode in MAIN:
        for form in _in(mode, _STORES):
            yield _operand(mode, form, group="readonly", target=READONLY, how="is in a read-only slot")
            how = "is in a read-only slot that was read before"
            yield _operand(mode, form, group="readonly-read", target=READONLY, how=how, before="mov-load")


def _strings() -> Iterator[Case]:
    for mode in MAIN:
        for form in _in(mode, forms.STRINGS):
            guest = Guest(mode)
            guest.prepare()
            guest.set(rdx=0x80)
            to = form.name in {"stos", "stos-w", "movs-to", "scas", "rep-stos", "rep-movs", "ins"}
            if mode == "real16":
                there, here = ("es", "ds") if to else ("ds", "es")
                guest.sregs = layout.with_segment(guest.sregs, there, HOLE16)
                guest.sregs = layout.with_segment(guest.sregs, here, DATA)
            else:
                guest.set(rsi=DATA if to else HOLE, rdi=HOLE if to else DATA)
            insn = form.encode(mode)
            guest.code(insn)
            register = "DI" if to else "SI"
            about = f"{form.text}, {_where(mode, 0)}: {register} leads to where there is no memory"
            yield guest.case("string", form.name, about, insn=insn, text=form.text, access=form.access, gpa=guest.hole)


def _stacks() -> Iterator[Case]:
    for mode in MAIN:
        for form in _in(mode, forms.STACKS):
            guest = Guest(mode)
            guest.prepare()
            top = 0x800
            if mode == "real16":
                guest.sregs = layout.with_segment(guest.sregs, "ss", HOLE16)
                guest.set(rsp=top, rbp=top)
            else:
                guest.set(rsp=HOLE + top, rbp=HOLE + top)
            insn = form.encode(mode)
            guest.code(insn)
            about = f"{form.text}, {_where(mode, 0)}: the stack is where there is no memory"
            yield guest.case("stack", form.name, about, insn=insn, text=form.text, access=form.access, gpa=guest.hole)


# -- fetch ---------------------------------------------------------------------------------------------


def _jump(mode: Mode, *, cpl: int, cap204: bool, call: bool = False, known: bool = False) -> Case:
    guest = Guest(mode, cpl)
    first = b""
    if known:
        guest.point(guest.hole)
        first = forms.BY_NAME["mov-load"].encode(mode)
        if mode != "real16":
            first = b"\x89\xdf" + first  # mov %ebx, %edi: which the load leaves alone
    if mode == "real16":
        insn = bytes.fromhex("9a" if call else "ea") + bytes.fromhex("0000") + (HOLE16 >> 4).to_bytes(2, "little")
        text = f"l{'call' if call else 'jmp'} $0xd000, $0"
    else:
        guest.set(rbx=HOLE)
        insn = bytes.fromhex("ff d3" if call else "ff e3")
        text = f"{'call' if call else 'jmp'} *%{'rbx' if mode == 'long64' else 'ebx'}"
    guest.code(first + insn)
    name = ("call" if call else "jmp") + ("-known" if known else "")
    about = f"{text}, {_where(mode, cpl)}: the target has no memory" + (", and was read before" if known else "")
    return guest.case(
        "fetch", name, about, insn=insn, text=text, at=guest.hole, access="fetch", gpa=guest.hole, cap204=cap204
    )


def _fetch() -> Iterator[Case]:
    for mode in ("long64", "prot32", "compat32", "real16"):
        for cpl in _levels(mode):
            for cap204 in (False, True):
                yield _jump(mode, cpl=cpl, cap204=cap204)
                yield _jump(mode, cpl=cpl, cap204=cap204, known=True)
        yield _jump(mode, cpl=0, cap204=False, call=True)


# name, the bytes, text; the operand has a displacement, so that there is something to cut
def _long_forms(mode: Mode) -> Iterator[tuple[str, bytes, str]]:
    word = WORD[mode]
    modrm = {16: "06", 32: "05", 64: "04 25"}[word]  # disp16, disp32, SIB with disp32
    where = bytes.fromhex("0000") if word == 16 else HOLE.to_bytes(4, "little")
    if word == 64:
        where = HOLE16.to_bytes(4, "little")  # sign-extended, so it has to be low
    for name, opcode, text in (("mov", "8b", "mov ADDRESS, %eax"), ("flds", "d9", "flds ADDRESS")):
        yield name, bytes.fromhex(opcode + modrm) + where, text


def _edges() -> Iterator[Case]:
    """The last bytes before a page end, the end of RAM, a segment limit; and across each."""
    for mode in MAIN:
        for name, insn, text in _long_forms(mode):
            for cut in range(1, len(insn)):
                for place, end in (("ram-end", RAM_SIZE), ("page-end", CODE + 0x1000)):
                    if place == "page-end" and cut not in {1, len(insn) - 1}:
                        continue
                    yield _edge(mode, name, insn, text, place=place, end=end, room=cut)
            for spare in (0, 1, 5):
                for place, end in (("ram-end", RAM_SIZE), ("page-end", CODE + 0x1000)):
                    yield _edge(mode, name, insn, text, place=place, end=end, room=len(insn) + spare)
    for mode in ("real16", "prot32"):
        for spare in (0, 1, 5):
            guest = Guest(mode)
            guest.point(guest.hole)
            form = forms.BY_NAME["flds"]
            insn = form.encode(mode)
            guest.code(insn)
            limit = guest.regs.rip + len(insn) + spare - 1
            guest.change("cs", limit=limit, g=0)
            about = f"{form.say(mode)}, {_where(mode, 0)}: {spare} more bytes to the limit of CS"
            yield guest.case(
                *("edge", f"cs-limit-{spare}", about),
                insn=insn,
                text=form.say(mode),
                access="read",
                gpa=guest.hole,
            )


def _edge(mode: Mode, name: str, insn: bytes, text: str, *, place: str, end: int, room: int) -> Case:
    """``insn`` so that ``room`` bytes lie before ``end``."""
    guest = Guest(mode)
    guest.point(guest.hole)
    at = end - room
    if mode == "real16":
        guest.sregs = layout.with_segment(guest.sregs, "cs", end - 0x1000)
        guest.set(rip=0x1000 - room)
    elif mode == "long64":
        guest.image.quad(layout.PD_LOW, layout.PT | 0x27)  # 4 KiB pages: the hole at HOLE16 is one of them
        for page in range(512):
            guest.image.quad(layout.PT + 8 * page, page << 12 | 0x67)
        guest.set(rip=at)
    else:
        guest.set(rip=at)
    inside = insn[:room].ljust(room, b"\xf4")
    guest.image.put(at, inside)
    if place == "page-end":
        guest.image.put(end, insn[room:] + guest.end)
    cut = room < len(insn)
    said = f"{room} of its {len(insn)} bytes lie" if cut else f"{room - len(insn)} more bytes lie"
    where = "the end of RAM" if place == "ram-end" else "a page end"
    about = f"{text.replace('ADDRESS', 'memory')}, {_where(mode, 0)}: {said} before {where}"
    hole = HOLE16 if mode == "long64" else guest.hole
    if cut and place == "ram-end":
        return guest.case(
            *("edge", f"{name}-{place}-cut-{room}", about),
            insn=insn,
            text=text.replace("ADDRESS", hex(hole)),
            at=at,
            access="fetch",
            gpa=RAM_SIZE,
        )
    suffix = f"cut-{room}" if cut else f"spare-{room - len(insn)}"
    return guest.case(
        *("edge", f"{name}-{place}-{suffix}", about),
        insn=insn,
        text=text.replace("ADDRESS", hex(hole)),
        at=at,
        access="read",
        gpa=hole,
    )


# -- event delivery ------------------------------------------------------------------------------------


class _Event(NamedTuple):
    name: str
    vector: int
    code: str
    text: str
    modes: tuple[Mode, ...]


_EVENTS: Final = tuple(
    _Event(*row)
    for row in (
        ("ud2", 6, "0f 0b", "ud2", MODES),
        ("int3", 3, "cc", "int3", MODES),
        ("int", 0x21, "cd 21", "int $0x21", MODES),
        ("de", 0, "31 c9 f7 f1", "div %ecx, which is 0", MODES),
        ("icebp", 1, "f1", "icebp", MAIN),
        ("gp", 13, "48 a1 00 00 00 00 00 00 00 80", "a load from a non-canonical address", ("long64",)),
        ("gp-wrmsr", 13, "b9 ef be ad de 0f 30", "wrmsr to no MSR", ("long64", "prot32")),
        ("gp-sreg", 13, "b8 f8 ff 00 00 8e e0", "mov of a bad selector to %fs", ("long64", "prot32")),
        ("pf", 14, "8b 04 25 00 00 00 40", "a load from an address that is not mapped", ("long64",)),
        ("nm", 7, "0f 77 d9 e8", "fld1 with CR0.TS", MAIN),
        ("into", 4, "b0 7f 04 01 ce", "into after an overflow", ("prot32", "real16")),
    )
)
_PRIVILEGED: Final = {"gp-wrmsr"}


def _event(event: _Event, mode: Mode, *, cpl: int, place: str, cap204: bool = False, known: bool = False) -> Case:
    name, vector, text = event.name, event.vector, event.text
    code = bytes.fromhex(event.code)
    guest = Guest(mode, cpl)
    first = b""
    if known:
        guest.point(guest.hole)
        first = forms.BY_NAME["mov-load"].encode(mode)
    if name == "nm":
        code = code[2:]
        guest.set_sregs(cr0=guest.sregs.cr0 | 8)
    guest.code(first + code)
    gpa = _lead_to_hole(guest, place, vector)
    about = f"{text}, {_where(mode, cpl)}: {_PLACES[place]}" + (", in a page that was read before" if known else "")
    return guest.case(
        *(f"event-{place}", name + ("-known" if known else ""), about),
        insn=code,
        text=text,
        at=ENTRY + len(first),
        access="event-delivery",
        gpa=gpa,
        cap204=cap204,
    )


_PLACES: Final = {
    "idt": "the IDT is where there is no memory",
    "stack": "the handler's stack is where there is no memory",
    "gdt": "the GDT, which delivery reads CS from, is where there is no memory",
    "tss": "the TSS, which delivery reads the stack from, is where there is no memory",
    "stack-readonly": "the handler's stack is in a read-only slot",
}


def _lead_to_hole(guest: Guest, place: str, vector: int) -> int:
    """Let event delivery touch the hole; the GPA that it touches first."""
    top = 0x800
    stack = READONLY if place == "stack-readonly" else guest.hole
    if place == "idt":
        guest.change("idt", base=guest.hole, limit=layout.gate_size(guest.mode) * layout.VECTORS - 1)
        return guest.hole + layout.gate_size(guest.mode) * vector
    if place == "gdt":
        guest.change("gdt", base=guest.hole)
        code = layout.CODE64 if layout.is_long(guest.mode) else layout.CODE32
        return guest.hole + code
    if place == "tss":
        guest.change("tr", base=guest.hole)
        return guest.hole + 4
    if guest.cpl:  # the stack comes from the TSS
        guest.image.put(layout.TSS + 4, (stack + top).to_bytes(4, "little"))
    elif guest.mode == "real16":
        guest.sregs = layout.with_segment(guest.sregs, "ss", stack)
        guest.set(rsp=top)
    elif guest.mode == "prot16":
        guest.set(rsp=stack + top)
    else:
        guest.set(rsp=stack + top)
    word = 8 if layout.is_long(guest.mode) else 2 if guest.mode == "real16" else 4
    return stack + top - word


def _events() -> Iterator[Case]:
    for event in _EVENTS:
        for mode in event.modes:
            for cpl in _levels(mode):
                if cpl and event.name in _PRIVILEGED:
                    continue
                yield _event(event, mode, cpl=cpl, place="idt")
                yield _event(event, mode, cpl=cpl, place="stack")
                if mode in MAIN:
                    yield _event(event, mode, cpl=cpl, place="idt", known=True)
                if event.name in {"ud2", "int3", "int"} and mode in MAIN:
                    yield _event(event, mode, cpl=cpl, place="stack", known=True)
                    yield _event(event, mode, cpl=cpl, place="idt", cap204=True)
                    yield _event(event, mode, cpl=cpl, place="stack-readonly")
                    if mode != "real16":
                        yield _event(event, mode, cpl=cpl, place="gdt")
                    if cpl:
                        yield _event(event, mode, cpl=cpl, place="tss")
    for mode in MAIN:
        for name, events, text in (
            ("irq", Events(interrupt_injected=1, interrupt_nr=0x2F), "an external interrupt, vector 0x2f"),
            ("nmi", Events(nmi_injected=1), "an NMI"),
            ("ud", Events(exception_injected=1, exception_nr=6), "#UD, injected by the VMM"),
        ):
            for place in ("idt", "stack"):
                guest = Guest(mode)
                guest.events = events
                guest.set(rflags=0x202)
                vector = events.interrupt_nr or (2 if events.nmi_injected else 6)
                gpa = _lead_to_hole(guest, place, vector)
                guest.code(b"\xeb\xfe")  # 1: jmp 1b, should the event never come
                about = f"{text}, {_where(mode, 0)}: {_PLACES[place]}"
                yield guest.case(f"event-{place}", name, about, text=text, access="event-delivery", gpa=gpa)


def _walks() -> Iterator[Case]:
    """Page tables without memory."""
    for name in ("mov-load", "mov-store", "flds", "fstps", "vaddps"):
        form = forms.BY_NAME[name]
        for level, table, index in (("pt", layout.PD_LOW, 1), ("pd", layout.PDPT, 1)):
            for cpl in (0, 3):
                guest = Guest("long64", cpl)
                guest.prepare()
                guest.set(rbx=1 << (21 if level == "pt" else 30))
                guest.image.quad(table + 8 * index, HOLE + 0x1000 | 7)
                insn = form.encode("long64")
                guest.code(insn)
                about = f"{form.text}, {_where('long64', cpl)}: the operand's {level.upper()} has no memory"
                yield guest.case(
                    *("walk", f"{name}-{level}", about.replace("{m}", "(%rbx)")),
                    insn=insn,
                    text=form.say("long64"),
                    access="page-walk",
                    gpa=HOLE + 0x1000,
                )
    for mode in ("long64", "compat32"):
        guest = Guest(mode)
        guest.set_sregs(cr3=HOLE)
        guest.code(b"\x90")
        yield guest.case("walk", "cr3", f"CR3 leads to no memory, {_where(mode, 0)}", access="page-walk", gpa=HOLE)
    guest = Guest("long64")
    guest.image.quad(layout.PD_LOW + 8, HOLE + 0x1000 | 7)
    guest.change("idt", base=1 << 21)
    guest.code(b"\x0f\x0b")
    yield guest.case(
        *("walk", "idt-pt", "ud2, 64-bit mode, CPL 0: the page table of the IDT's page has no memory"),
        insn=b"\x0f\x0b",
        text="ud2",
        access="page-walk",
        gpa=HOLE + 0x1000,
    )
    guest = Guest("long64")
    guest.image.quad(layout.PD_LOW + 8, HOLE + 0x1000 | 7)
    guest.set(rbx=1 << 21)
    guest.code(b"\xff\xe3")
    yield guest.case(
        *("walk", "jmp-pt", "jmp *%rbx, 64-bit mode, CPL 0: the page table of the target has no memory"),
        insn=b"\xff\xe3",
        text="jmp *%rbx",
        access="page-walk",
        gpa=HOLE + 0x1000,
    )


def _again() -> Iterator[Case]:
    """KVM_RUN once more after the failure: the #UD that was queued, or the same again."""
    for mode in MAIN:
        for name in ("flds", "fstps", "xsave", "addps"):
            for cap204 in (False, True):
                form = forms.BY_NAME[name]
                yield _operand(
                    mode, form, cap204=cap204, group="again", how="has no memory, and KVM is run again", failures=3
                )
    for cap204 in (False, True):
        how = "has no memory, and KVM is run again"
        yield _operand("long64", forms.BY_NAME["flds"], cpl=3, cap204=cap204, group="again", how=how, failures=3)


# -- instructions that the CPU need not have -----------------------------------------------------------


def _stale() -> Iterator[Case]:
    """Any bytes at all reach KVM's emulator: the CPU still executes what the page showed before.

    The code page has an entry of its own in PT. The second instruction rewrites that entry, without a
    flush, so that it leads to another page; the third one, a load from the hole, is executed from the
    TLB's old translation, and KVM, which walks the page tables itself, fetches from the new one. The
    first one makes KVM map the page directory that leads to the hole: an exit for that would flush.
    """
    linear, old, new, alias = 1 << 21, 0x30000, 0x31000, HOLE + (1 << 21)
    trigger = bytes.fromhex("8b 0f 48 89 55 00 8b 03")  # mov (%rdi), %ecx; mov %rdx, (%rbp); mov (%rbx), %eax
    start, seen = 0x100, 0x106  # the load is 6 bytes behind the start
    tested = (
        *forms.NEWER,
        *(forms.BY_NAME[n] for n in ("flds", "mov-load", "vmovdqu-ymm", "popcnt", "paddd", "vaddps")),
    )
    for form in tested:
        guest = Guest("long64")
        guest.prepare()
        insn = form.encode("long64")
        guest.image.quad(layout.PD_LOW + 8, layout.PT | 0x67)
        guest.image.quad(layout.PT, old | 0x67)
        guest.image.quad(layout.PD_HOLE + 8 * (alias >> 21 & 511), 0xE7)  # to GPA 0
        guest.image.put(old + start, trigger + b"\xf4" * 26)
        guest.image.put(new, b"\xf4" * 0x140)
        guest.image.put(new + seen, insn + b"\xf4" * 16)
        # The store goes through the identity map of the first 2 MiB, not through the page it changes.
        guest.set(rip=linear + start, rbx=HOLE, rdi=alias, rbp=layout.PT, rdx=new | 0x67)
        about = f"{form.say('long64')}, {_where('long64', 0)}: KVM sees it where the CPU executes a load from no memory"
        yield guest.case(
            *("stale", form.name, about),
            insn=insn,
            text=form.say("long64"),
            at=linear + seen,
            access="read",
            gpa=HOLE,
        )


# -- guest state that no CPU enters with ---------------------------------------------------------------


def _entry() -> Iterator[Case]:
    noncanonical = 1 << 63

    def state(mode: Mode, name: str, about: str, segment: str = "", **values: int) -> Case:
        guest = Guest(mode)
        guest.code(b"\x90")
        if segment:
            guest.change(segment, **values)
        elif set(values) <= set(Regs.__struct_fields__):
            guest.set(**values)
        else:
            guest.set_sregs(**values)
        return guest.case("entry", name, f"{about}, {_where(mode, 0)}")

    yield state("long64", "cs-l-d", "CS.L and CS.D both set", "cs", db=1)
    yield state("long64", "tr-unusable", "TR unusable", "tr", unusable=1)
    yield state("long64", "tr-available", "TR has type 9, an available TSS", "tr", type=9)
    yield state("long64", "cs-absent", "CS not present", "cs", present=0)
    yield state("long64", "cs-system", "CS.S is 0", "cs", s=0)
    yield state("long64", "cs-data", "CS is a data segment", "cs", type=3)
    yield state("long64", "cs-data-dpl3", "CS is a data segment with DPL 3", "cs", type=3, dpl=3)
    yield state("long64", "cs-base-high", "CS.base above 4 GiB", "cs", base=1 << 32)
    yield state("long64", "ss-code", "SS is a code segment", "ss", type=11)
    yield state("long64", "ss-absent", "SS not present, yet usable", "ss", present=0)
    yield state("long64", "ds-execute-only", "DS is execute-only", "ds", type=9)
    yield state("long64", "es-system", "ES.S is 0", "es", s=0)
    yield state("long64", "fs-noncanonical", "FS.base not canonical", "fs", base=noncanonical)
    yield state("long64", "gs-noncanonical", "GS.base not canonical", "gs", base=noncanonical)
    yield state("long64", "tr-noncanonical", "TR.base not canonical", "tr", base=noncanonical)
    yield state("long64", "gdtr-noncanonical", "GDTR.base not canonical", "gdt", base=noncanonical)
    yield state("long64", "idtr-noncanonical", "IDTR.base not canonical", "idt", base=noncanonical)
    yield state("long64", "rip-noncanonical", "RIP not canonical", rip=noncanonical)
    yield state("long64", "rflags-vm", "RFLAGS.VM under long mode", rflags=0x20002)
    yield state("long64", "rflags-63", "bit 63 of RFLAGS", rflags=noncanonical | 2)
    yield state("long64", "rflags-1", "bit 1 of RFLAGS is 0", rflags=0)
    yield state("long64", "cr0-nw", "CR0.NW without CR0.CD", cr0=layout.sregs("long64").cr0 | 1 << 29)
    yield state("long64", "cr0-high", "bit 32 of CR0", cr0=layout.sregs("long64").cr0 | 1 << 32)
    yield state("long64", "cr3-high", "bit 63 of CR3", cr3=layout.PML4 | noncanonical)
    yield state("long64", "cr4-reserved", "bit 30 of CR4", cr4=layout.sregs("long64").cr4 | 1 << 30)
    yield state("long64", "cr4-no-pae", "long mode without CR4.PAE", cr4=layout.CR4_OSFXSR)
    yield state("long64", "efer-reserved", "bit 20 of EFER", efer=0x500 | 1 << 20)
    yield state("long64", "efer-no-lma", "EFER.LME and CR0.PG, but not LMA", efer=0x100)
    yield state("long64", "efer-no-lme", "EFER.LMA without LME", efer=0x400)
    yield state("prot32", "rip-high", "RIP above 4 GiB", rip=1 << 32 | ENTRY)
    yield state("prot32", "rflags-vm", "RFLAGS.VM, with segments that are not those of vm86", rflags=0x20002)
    yield state("prot32", "ss-dpl", "SS.DPL and RPL 3, CS.DPL 0", "ss", dpl=3, selector=layout.DATA_SEL | 3)
    yield state("prot32", "ss-rpl", "SS.RPL 3, CS.RPL 0", "ss", selector=layout.DATA_SEL | 3)
    yield state("prot32", "ds-limit-g", "DS.limit 0xfffff000 with G", "ds", limit=0xFFFFF000)
    yield state("prot32", "ds-limit-no-g", "DS.limit 0xffffffff without G", "ds", g=0)
    yield state("prot32", "cs-l", "CS.L outside long mode", "cs", l=1)
    yield state("prot32", "efer-lma", "EFER.LMA without paging", efer=0x500)
    yield state("prot32", "cr0-pg-no-pe", "CR0.PG without PE", cr0=1 << 31 | layout.CR0_ET)
    yield state("prot32", "tr-unusable", "TR unusable", "tr", unusable=1)
    yield state("real16", "ds-limit", "DS.limit 4 GiB: unreal mode", "ds", limit=0xFFFFFFFF, g=1)
    yield state("real16", "ds-base", "DS.base is not its selector times 16", "ds", base=0x50000, selector=0x1234)
    yield state("real16", "cs-type", "CS is a data segment", "cs", type=3)

    ldt = Guest("long64")
    ldt.code(b"\x90")
    ldt.set_sregs(ldt=Segment(selector=0x30, type=3, present=1))
    yield ldt.case("entry", "ldtr-type", "LDTR has type 3, 64-bit mode, CPL 0")

    yield from _bad_injection()


def _bad_injection() -> Iterator[Case]:
    """Events that no VMM may inject, given with KVM_SET_VCPU_EVENTS."""
    sti, mov_ss, shadow = 2, 1, 1 << 2  # KVM_X86_SHADOW_INT_STI, _MOV_SS, KVM_VCPUEVENT_VALID_SHADOW

    def event(name: str, about: str, events: Events, rflags: int = 2, mode: Mode = "long64") -> Case:
        guest = Guest(mode)
        guest.code(b"\x90")
        guest.set(rflags=rflags)
        guest.events = events
        return guest.case("entry", name, f"{about}, {_where(mode, 0)}")

    irq = Events(interrupt_injected=1, interrupt_nr=0x20)
    yield event("irq-if0", "an external interrupt injected with RFLAGS.IF clear", irq)
    yield event(
        *("irq-shadow", "an external interrupt injected under STI blocking"),
        replace(irq, interrupt_shadow=sti, flags=shadow),
        0x202,
    )
    yield event("sti-if0", "STI blocking with RFLAGS.IF clear", Events(interrupt_shadow=sti, flags=shadow))
    yield event("movss-tf", "MOV SS blocking with RFLAGS.TF", Events(interrupt_shadow=mov_ss, flags=shadow), 0x102)
    yield event(
        *("nmi-sti", "an NMI injected under STI blocking"),
        Events(nmi_injected=1, interrupt_shadow=sti, flags=shadow),
        0x202,
    )
    yield event(
        *("nmi-movss", "an NMI injected under MOV SS blocking"),
        Events(nmi_injected=1, interrupt_shadow=mov_ss, flags=shadow),
    )
    yield event(
        *("soft-int", "a software interrupt injected, of unknown length"),
        Events(interrupt_injected=1, interrupt_nr=0x20, interrupt_soft=1),
    )
    yield event("bp", "#BP injected, of unknown length", Events(exception_injected=1, exception_nr=3))
    yield event("of", "#OF injected, of unknown length", Events(exception_injected=1, exception_nr=4))
    yield event(
        *("ud-error-code", "#UD injected with an error code"),
        Events(exception_injected=1, exception_nr=6, exception_has_error_code=1),
    )
    yield event("gp-no-code", "#GP injected without an error code", Events(exception_injected=1, exception_nr=13))
    gp = Events(exception_injected=1, exception_nr=13, exception_has_error_code=1)
    high = replace(gp, exception_error_code=1 << 28)
    yield event("gp-code-high", "#GP injected, bit 28 of its error code set", high)
    yield event("gp-real", "#GP injected with an error code", gp, mode="real16")
    yield event("vector-2", "exception 2 injected", Events(exception_injected=1, exception_nr=2))
    yield event("vector-31", "exception 31 injected", Events(exception_injected=1, exception_nr=31))


@cache
def catalogue() -> tuple[Case, ...]:
    """All cases, in the order of the bundle."""
    parts = (_data, _cached, _controls, _readonly, _strings, _stacks, _fetch, _edges, _events, _walks, _again)
    return tuple(case for part in (*parts, _stale, _entry) for case in part())


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m lab.catalogue FILE\n")
        return 2
    bundle = Path(arguments[0])
    cases = catalogue()
    bundle.write_bytes(pack_all(cases))
    bundle.with_name(bundle.name + ".json").write_bytes(describe(cases))
    sys.stdout.write(f"{len(cases)} cases, {bundle.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
