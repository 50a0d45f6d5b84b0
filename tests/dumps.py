"""QEMU's failure reports, printed from values: facts 6.1, written down a second time for the tests.

Nothing here comes from the reader under test; the record that a report must give is built beside it.
"""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from kvmwhy.record import SEGMENT_NAMES, Code, Cpu, Failure, Kind, Segment

HINT = (
    "\nIf you're running a guest on an Intel machine without unrestricted mode\n"
    "support, the failure can be most likely due to the guest entering an invalid\n"
    "state for Intel VT. For example, the guest maybe running in big real mode\n"
    "which is not supported on less recent Intel processors.\n\n"
)
ERRNOS = {"Bad address": "EFAULT", "Invalid argument": "EINVAL", "Input/output error": "EIO"}

_GPRS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
_HIGH = tuple(f"r{n}" for n in range(8, 16))
_DEBUG = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
_SYSTEM_TYPES = ("LDT", "TSS16-avl", "TSS32-busy", "TSS64-busy", "CallGate32", "Reserved", "<hiword>")

u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (32, 64))
words64 = st.one_of(u64, st.integers(0, 4096), st.sampled_from((0, 1 << 63, 2**64 - 1)))


class Printed(NamedTuple):
    """Lines as QEMU prints them, and what they say. ``head`` ends where the register dump begins."""

    head: str
    dump: str
    failure: Failure

    @property
    def text(self) -> str:
        return self.head + self.dump


def _segment_line(name: str, segment: Segment, digits: int, kind: str | None) -> str:
    line = (
        f"{name.upper():<3}={segment.selector:04x} {segment.base:0{digits}x}"
        f" {segment.limit:08x} {segment.attributes:08x}"
    )
    return line if kind is None else f"{line} DPL={segment.attributes >> 13 & 3} {kind}"


def print_dump(cpu: Cpu, code: Code, *, lma: bool, kinds: dict[str, str]) -> str:
    """The dump of ``cpu``; ``kinds`` is what protected mode adds to a segment's line."""
    r, wide = cpu.registers, cpu.wide
    digits = 16 if wide else 8
    first = "R" if wide else "E"
    out = [" ".join(f"{first}{n[1:].upper()}={r[n]:0{digits}x}" for n in four) for four in (_GPRS[:4], _GPRS[4:])]
    if wide:
        out += [" ".join(f"{n.upper():<3}={r[n]:016x}" for n in four) for four in (_HIGH[:4], _HIGH[4:])]
    letters = "".join(
        letter if r["rflags"] >> bit & 1 else "-"
        for letter, bit in zip("DOSZAPC", (10, 11, 7, 6, 4, 2, 0), strict=True)
    )
    out.append(
        f"{first}IP={r['rip']:0{digits}x} {first}FL={r['rflags']:08x} [{letters}]"
        f" CPL={cpu.cpl} II=0 A20=1 SMM={cpu.smm:d} HLT={cpu.halted:d}"
    )
    out += [_segment_line(n, cpu.segments[n], digits, kinds.get(n)) for n in SEGMENT_NAMES]
    table = 16 if lma else 8
    for name in ("gdt", "idt"):
        segment = cpu.segments[name]
        out.append(f"{name.upper()}=     {segment.base:0{table}x} {segment.limit:08x}")
    out.append(f"CR0={r['cr0']:08x} CR2={r['cr2']:0{table}x} CR3={r['cr3']:0{table}x} CR4={r['cr4']:08x}")
    out.append("".join(f"DR{n}={r[f'dr{n}']:016x} " for n in range(4)))
    out.append(f"DR6={r['dr6']:016x} DR7={r['dr7']:016x}")
    out.append(f"EFER={r['efer']:016x}")
    shown = ["??" if byte is None else f"{byte:02x}" for byte in code.window]
    assert code.rip_at is not None
    shown[code.rip_at] = f"<{shown[code.rip_at]}>"
    out.append("Code=" + " ".join(shown))
    return "\n".join(out) + "\n"


class _Values:
    """Numbers out of drawn bytes: one draw instead of a hundred. A quarter is small, as zeros get lost unseen."""

    def __init__(self, raw: bytes) -> None:
        self.raw = iter(raw)

    def bits(self, count: int) -> int:
        value = int.from_bytes(bytes(next(self.raw) for _ in range(8))) & (1 << count) - 1
        kind = value & 7
        return value & 0xFFF if kind == 0 else (1 << count) - 1 if kind == 1 else value


_RAW = st.one_of(st.binary(min_size=1200, max_size=1200), st.just(bytes(1200)))


@st.composite
def dumps(draw: st.DrawFn) -> tuple[str, Cpu, Code]:
    """A dump of any of the three layouts: 64-bit code, 16- or 32-bit code with or without LMA."""
    wide = draw(st.booleans())
    lma = wide or draw(st.booleans())
    protected = wide or draw(st.booleans())
    values = _Values(draw(_RAW))
    general = 64 if wide else 32
    table = 64 if lma else 32
    registers = {name: values.bits(general) for name in (*_GPRS, *(_HIGH if wide else ()), "rip")}
    registers |= {name: values.bits(32) for name in ("rflags", "cr0", "cr4")}
    registers |= {name: values.bits(table) for name in ("cr2", "cr3")}
    registers |= {name: values.bits(64) for name in (*_DEBUG, "efer")}
    held = {
        name: Segment(values.bits(16), values.bits(general), values.bits(32), values.bits(32) & 0x00FFFF00)
        for name in SEGMENT_NAMES
    }
    held |= {name: Segment(0, values.bits(table), values.bits(32), 0) for name in ("gdt", "idt")}
    absent = draw(st.sets(st.sampled_from(SEGMENT_NAMES), max_size=2))
    kinds: dict[str, str] = {}
    if protected:
        data = draw(st.sampled_from(("DS   [-WA]", "DS16 [E--]", "CS32 [CR-]")))
        code_kind = ("CS64" if wide else draw(st.sampled_from(("CS32", "CS16")))) + " [-RA]"
        system = draw(st.sampled_from(_SYSTEM_TYPES))
        kinds = dict.fromkeys(("es", "ss", "ds", "fs", "gs"), data) | {"cs": code_kind, "ldt": "LDT", "tr": system}
        kinds = {name: kind for name, kind in kinds.items() if name not in absent}
    cpu = Cpu(
        wide=wide,
        registers=registers,
        segments=held,
        cpl=draw(st.integers(0, 3)),
        smm=draw(st.booleans()),
        halted=draw(st.booleans()),
    )
    unreadable = draw(st.sets(st.integers(0, 49), max_size=5))
    memory = draw(st.binary(min_size=50, max_size=50))
    window = tuple(None if n in unreadable else byte for n, byte in enumerate(memory))
    code = Code(window, min(registers["rip"], 20))
    return print_dump(cpu, code, lma=lma, kinds=kinds), cpu, code


def banner_of(suberror: int, data: tuple[int, ...], *, padded: bool) -> str:
    """The lines of an internal error: QEMU 6.1 and later pad the words."""
    lines = [f"KVM internal error. Suberror: {suberror}"]
    lines += [f"extra data[{n}]: " + (f"0x{word:016x}" if padded else f"{word:x}") for n, word in enumerate(data)]
    if suberror == 1:
        lines.append("emulation failure")
    return "\n".join(lines) + "\n"


@st.composite
def internal_errors(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    suberror = draw(st.integers(1, 4))
    data = tuple(draw(st.lists(words64, max_size=16)))
    fields = {
        "kind": "internal-error",
        "suberror": suberror,
        "data": data,
        "ndata": len(data),
        "exit_reason": 17,
    }
    return banner_of(suberror, data, padded=draw(st.booleans())), fields


@st.composite
def other_heads(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """Every other line that announces a failure."""
    which: Kind = draw(st.sampled_from(("entry-failure", "unknown-exit", "exception-exit", "other", "run-error")))
    value = draw(st.one_of(u32, u64))
    fields: dict[str, object] = {"kind": which}
    match which:
        case "entry-failure":
            value = draw(st.sampled_from((0x80000021, 7, value)))
            hint = HINT if value == 0x80000021 and draw(st.booleans()) else ""
            fields |= {"hardware_error": value, "exit_reason": 9}
            return f"KVM: entry failed, hardware error {value:#x}\n{hint}", fields
        case "unknown-exit":
            fields |= {"hardware_reason": value, "exit_reason": 0}
            return f"KVM: unknown exit, hardware reason {value:x}\n", fields
        case "exception-exit":
            vector, code = draw(st.integers(0, 255)), draw(u32)
            fields |= {"exception": vector, "exception_error_code": code, "exit_reason": 1}
            return f"KVM: exception {vector} exit (error code {code:#x})\n", fields
        case "other":
            reason = draw(st.integers(40, 255))
            fields |= {"exit_reason": reason}
            return f"KVM: unknown exit reason {reason}\n", fields
        case _:
            message = draw(st.sampled_from(sorted(ERRNOS)))
            fields |= {"errno": ERRNOS[message]}
            return f"error: kvm run failed {message}\n", fields


@st.composite
def reports(draw: st.DrawFn, heads: st.SearchStrategy[tuple[str, dict[str, object]]] | None = None) -> Printed:
    """A whole report: what was announced, then the registers."""
    head, fields = draw(heads if heads is not None else st.one_of(internal_errors(), other_heads()))
    dump, cpu, code = draw(dumps())
    return Printed(head, dump, Failure(arch="x86", arch_from="register names", cpu=cpu, code=code, **fields))  # type: ignore[arg-type]  # a dict of its fields
