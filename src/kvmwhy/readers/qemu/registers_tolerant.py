"""QEMU's register dump token by token: for dumps that are cut, quoted, prefixed or interleaved.

QEMU prints a dump under its big lock, so dumps follow each other. What collects the lines may still
mix them: then every register comes twice, or out of order, and the dump is marked as mixed.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.qemu.registers_strict import (
    CODE_BYTES,
    CONTROL,
    GPR32,
    GPR64,
    SEGMENTS,
    STATE,
    TABLES,
    match_whole,
    read_code,
)
from kvmwhy.record import Arch, Code, Cpu, Segment

_IN_ORDER: Final = (*GPR64, "RIP", "RFL", *STATE, *SEGMENTS, *TABLES, *CONTROL)
ORDER: Final = {name: n for n, name in enumerate(_IN_ORDER)} | {
    name: _IN_ORDER.index("R" + name[1:]) for name in (*GPR32, "EIP", "EFL")
}
_WIDTHS: Final[dict[str, tuple[int, ...]]] = (
    dict.fromkeys((*GPR64, "RIP", "EFER"), (16,))
    | dict.fromkeys((*GPR32, "EIP", "RFL", "EFL", "CR0", "CR4"), (8,))
    | dict.fromkeys(("CR2", "CR3", "DR0", "DR1", "DR2", "DR3", "DR6", "DR7"), (8, 16))
)
_HIGHEST: Final = {"CPL": 3, "II": 1, "A20": 1, "SMM": 1, "HLT": 1}
_FIRST_LINE: Final = ORDER["RDX"]
_LAST_BY_WIDTH: Final = ORDER["RFL"]  # up to here the names begin with R or E
_WORTH_TELLING: Final = 8  # fewer values without a beginning are some other text
_SEGMENT_WEIGHT: Final = 3  # a segment's line is QEMU's own: four numbers of given widths

_MIXED: Final = "lines of several register dumps are mixed: some values may be another vCPU's"

_Value = int | Segment


class Dump:
    """The registers of one vCPU as far as they were seen, by QEMU's names with R for E."""

    def __init__(self, at: int, *, over: int | None) -> None:
        self.at = at
        self.over = over  # how far another had come, which had not ended when this one began
        self.last = -1  # position in ORDER of the last value
        self.values: dict[str, _Value] = {}
        self.wide: bool | None = None
        self.whole: Cpu | None = None  # if one pattern took it all
        self.code: Code | None = None
        self.repeated = False  # a value came twice, though the same
        self.mixed = False
        self.damage: list[str] = []
        self.torn: set[str] = set()
        self.arch: Arch = "x86"
        self.vcpu: int | None = None
        self.emulated = False  # printed by TCG
        self.asked_for = False  # printed on request: "info registers"

    def cut(self, name: str, digits: str) -> None:
        self.torn.add(name)
        if len(self.torn) <= len(_IN_ORDER):
            self.damage.append(f"{name} is cut: {digits[:40]}")

    def cpu(self) -> Cpu | None:
        values = self.values
        if self.whole or not values:
            return self.whole
        state = {name: value for name in STATE if isinstance(value := values.get(name), int)}
        numbers = {name: value for name, value in values.items() if isinstance(value, int) and name not in STATE}
        return Cpu(
            wide=self.wide,
            registers={"rflags" if name == "RFL" else name.lower(): value for name, value in numbers.items()},
            segments={name.lower(): value for name, value in values.items() if isinstance(value, Segment)},
            cpl=state.get("CPL"),
            smm=bool(state["SMM"]) if "SMM" in state else None,
            halted=bool(state["HLT"]) if "HLT" in state else None,
        )

    def repeats(self, name: str, value: _Value | None) -> bool:
        """Whether RAX or EAX comes again, right behind the line that it began."""
        same = self.wide == (name[0] == "R") and self.last <= _FIRST_LINE
        return same and value is not None and self.values.get("RAX") == value

    def begins(self, cpu: Cpu) -> bool:
        """Whether this is only the first line of that dump."""
        same = self.wide == cpu.wide and self.last <= _FIRST_LINE
        return same and all(cpu.get(n.lower()) == v for n, v in self.values.items())

    @property
    def doubtful(self) -> bool:
        return self.over is not None or self.repeated

    @property
    def negligible(self) -> bool:
        weight = sum(_SEGMENT_WEIGHT if isinstance(value, Segment) else 1 for value in self.values.values())
        return not self.whole and not self.code and weight < _WORTH_TELLING

    @property
    def is_only_code(self) -> bool:
        return self.code is not None and self.whole is None and not self.values

    @property
    def can_take_code(self) -> bool:
        """Whether its own line of code is missing."""
        return self.code is None and self.arch == "x86"

    def close(self) -> None:
        """No more is coming: name what is missing."""
        missing = self._missing() if self.whole is None else []
        if missing and self.over is not None:
            self.mixed = self.mixed or self.last > self.over
        if self.code is None:
            missing.append("Code")
        if missing:
            names = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
            self.damage.append(f"the register dump is not complete: no {names}")
        if self.code and len(self.code.window) < CODE_BYTES:
            self.damage.append(f"Code= has {len(self.code.window)} bytes of {CODE_BYTES}")
        if self.mixed:
            self.damage.append(_MIXED)

    def continued(self) -> None:
        """More came behind the end of this dump, in which two were being printed: which is whose?"""
        if not self.mixed:
            self.mixed = True
            self.damage.append(_MIXED)

    def _missing(self) -> list[str]:
        narrow = self.wide is False
        names = [n for n in _IN_ORDER if not (narrow and n in GPR64[8:]) and n not in {"II", "A20"}]
        shown = [("E" + n[1:] if narrow and n[0] == "R" else n) for n in names if n not in self.values]
        return [name for name in shown if name not in self.torn]


class Dumps:
    """All dumps of a text, in order."""

    def __init__(self) -> None:
        self.found: list[Dump] = []
        self.current: Dump | None = None

    def whole(self, text: str, at: int) -> int | None:
        """Take an intact dump at once; return where it ends."""
        taken = match_whole(text, at)
        if taken is None:
            return None
        repeated = self.current is not None and self.current.begins(taken.cpu)
        if repeated:
            self.found.pop()  # the first line is there twice
            self.current = None
        dump = self._open(at)
        dump.repeated = repeated
        dump.last, dump.whole, dump.code = len(_IN_ORDER), taken.cpu, taken.code
        self._close()
        return taken.end

    def field(self, at: int, name: str, values: list[str], *, last: bool) -> None:
        """Take one ``NAME=`` with its digits; ``last``: the text ends with them."""
        position = ORDER[name]
        value = _value(name, values)
        wide = self.current is not None and self.current.wide
        if (last or wide) and len(values[-1]) == 8 and 16 in _WIDTHS.get(name, ()):
            value = None  # eight digits may be half of sixteen; in a wide dump they are
        canonical = "R" + name[1:] if name[0] == "E" and name not in {"ES", "EFER"} else name
        dump = self.current
        if dump is None or (position == 0 and not dump.repeats(name, value)):
            if value is None and position:
                return  # some other text
            before = self.found[-1] if self.found and position else None
            dump = self._open(at)
            if before and before.doubtful:
                before.continued()
                dump.mixed = True
        letter = name[0] if ORDER[name] <= _LAST_BY_WIDTH else ""
        if letter and dump.wide is not None and dump.wide != (letter == "R"):
            dump.mixed = True  # a dump is wide or narrow, never both
        elif value is None:
            dump.last = max(dump.last, position)
            dump.cut(name, " ".join(values))
        elif canonical in dump.values:
            # A line that is there twice does no harm, if that is what it is.
            dump.repeated = True
            dump.mixed = dump.mixed or dump.values[canonical] != value
        elif position < dump.last:
            dump.mixed = True
        else:
            dump.last = position
            dump.values[canonical] = value
            if letter:
                dump.wide = letter == "R"

    def code(self, at: int, digits: str) -> None:
        """Take ``Code=``, a dump's last line."""
        code = read_code(digits)
        if self.current is None:
            last = self.found[-1] if self.found else None
            if code is None or (last and last.code == code):
                return  # some other program's, or the same line again
            if last and last.doubtful:
                last.continued()
                return
            self._open(at)
        if self.current:
            self.current.code = code
        self._close()

    def end(self) -> None:
        """The text, or the VM, ends here."""
        if self.current:
            self._close()

    def _open(self, at: int) -> Dump:
        over = self.current.last if self.current else None
        self.end()
        self.current = Dump(at, over=over)
        self.found.append(self.current)
        return self.current

    def _close(self) -> None:
        if self.current:
            self.current.close()
        self.current = None


def _value(name: str, digits: list[str]) -> _Value | None:
    """The value if it has all its digits."""
    first = digits[0]
    if widths := _WIDTHS.get(name):
        return int(first, 16) if len(first) in widths else None
    if highest := _HIGHEST.get(name):
        return int(first) if first in {"0", "1", "2", "3"} and int(first) <= highest else None
    lengths = [len(number) for number in digits]
    if name in TABLES:
        return Segment(0, int(first, 16), int(digits[1], 16), 0) if lengths[:2] in ([8, 8], [16, 8]) else None
    if lengths in ([4, 8, 8, 8], [4, 16, 8, 8]):
        return Segment(*(int(number, 16) for number in digits))
    return None
