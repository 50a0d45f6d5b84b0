"""QEMU's report of a KVM failure, of any age: the banner, the words, the register dump, the code.

The lines are plain fprintf of several vCPU threads, without a common lock: banners, words and dumps
of different vCPUs may follow each other in any order. Tokens are therefore read in sequence and
put together afterwards; what could belong to two vCPUs is given to one only with a remark.

Formats: qemu accel/kvm/kvm-all.c and target/i386/{kvm/kvm.c,cpu-dump.c} of 2.x … 10.2; the words
were unpadded and without 0x until 6.1.
"""

from __future__ import annotations

import re
from typing import Any, Final

from kvmwhy.evidence import Evidence
from kvmwhy.evidence.host import host_of
from kvmwhy.evidence.qemu_dump import (
    CODE,
    CONTROL,
    GPR32,
    GPR64,
    SEGMENTS,
    STATE,
    TABLES,
    match_whole,
    read_code,
)
from kvmwhy.evidence.text import Text
from kvmwhy.record import Code, Cpu, Failure, Segment, Source

# One pattern for all tokens; what a token is, is the group that matched. The first letters of
# "error", "emulation" and "extra" are left out: they are hex digits, and may be glued to a value.
_TOKEN: Final = re.compile(
    r"(?<!Sysenter )(?<!:)\b([A-Z][A-Z0-9]{1,3}) ?=(?!\s*0x)(\s*[0-9a-f]+)((?:\s+(?:[0-9a-f]{16}|[0-9a-f]{8}))*)"
    rf"|{CODE}"
    r"|(KVM internal error\. Suberror: ?|xtra data ?\[\d{1,2}\]: ?(?:0x)?|mulation failure"
    r"|KVM: entry failed, hardware error (?:0x)?|KVM: unknown exit, hardware reason (?:0x)?"
    r"|KVM: unknown exit reason |KVM: exception |rror: kvm run failed"
    r"|kvm: unhandled exit (?:0x)?|kvm_run returned -|unexpected exit reason 0x)"
)
_NUMBER: Final = re.compile(r"[0-9a-f]{1,16}\b")
_DECIMAL: Final = re.compile(r"\d{1,10}")
_EXCEPTION: Final = re.compile(r"(\d{1,3}) exit \(error code (?:0x)?([0-9a-f]{1,8})\)")
_LINE: Final = re.compile(r"[^\n]{0,400}")

_IN_ORDER: Final = [*GPR64, "RIP", "RFL", *STATE, *SEGMENTS, *TABLES, *CONTROL]
_ORDER: Final = {name: n for n, name in enumerate(_IN_ORDER)} | {
    name: _IN_ORDER.index("R" + name[1:]) for name in (*GPR32, "EIP", "EFL")
}
_NAMES: Final = (
    {name: name.lower() for name in (*GPR64, "RIP", *CONTROL)}
    | {name: "r" + name[1:].lower() for name in (*GPR32, "EIP")}
    | {"RFL": "rflags", "EFL": "rflags"}
)
_WIDTHS: Final[dict[str, tuple[int, ...]]] = (
    dict.fromkeys((*GPR64, "RIP", "EFER"), (16,))
    | dict.fromkeys((*GPR32, "EIP", "RFL", "EFL", "CR0"), (8,))
    | dict.fromkeys(CONTROL[1:-1], (8, 16))
)

_CODE_BYTES: Final = 50

_ERRNO: Final = {
    "Bad address": "EFAULT",
    "Invalid argument": "EINVAL",
    "Input/output error": "EIO",
    "Function not implemented": "ENOSYS",
    "Cannot allocate memory": "ENOMEM",
    "Memory page has hardware error": "EHWPOISON",
    "Device or resource busy": "EBUSY",
    "No such device or address": "ENXIO",
    "No such device": "ENODEV",
    "Exec format error": "ENOEXEC",
    "Operation not permitted": "EPERM",
    "Permission denied": "EACCES",
    "Interrupted system call": "EINTR",
    "Resource temporarily unavailable": "EAGAIN",
    "Operation not supported": "EOPNOTSUPP",
    "Bad file descriptor": "EBADF",
    "No such file or directory": "ENOENT",
    "No space left on device": "ENOSPC",
}
_ERRNO_NUMBERS: Final = {
    4: "EINTR",
    5: "EIO",
    11: "EAGAIN",
    12: "ENOMEM",
    14: "EFAULT",
    16: "EBUSY",
    22: "EINVAL",
}

_MARKS: Final = (
    "KVM internal error",
    "KVM: ",
    "kvm run failed",
    "unhandled exit",
    "EFER=",
    "Code=",
    "GDT=",
    "RIP=",
    "EIP=",
)


def detect(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


class _Banner:
    """A failure as far as its head tells; words and registers come later."""

    def __init__(self, at: int, **fields: Any) -> None:
        self.at = at
        self.fields = fields
        self.data: list[int] = []
        self.closed = False  # no more words can follow
        self.damage: list[str] = []
        self.dump: _Dump | None = None
        self.shared = False

    def same_as(self, other: _Banner) -> bool:
        return self.fields == other.fields and self.data == other.data


class _Dump:
    """The registers of one vCPU, in the order in which they come."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.last = -1  # position in _ORDER of the last field taken
        self.registers: dict[str, int] = {}
        self.segments: dict[str, Segment] = {}
        self.state: dict[str, int] = {}
        self.wide: bool | None = None
        self.whole: Cpu | None = None  # if one pattern took it all
        self.code: Code | None = None
        self.damage: list[str] = []

    def cpu(self) -> Cpu | None:
        if self.whole or not (self.registers or self.segments):
            return self.whole
        smm, halted = self.state.get("SMM"), self.state.get("HLT")
        return Cpu(
            wide=self.wide,
            registers=self.registers,
            segments=self.segments,
            cpl=self.state.get("CPL"),
            smm=None if smm is None else bool(smm),
            halted=None if halted is None else bool(halted),
        )


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Every failure in the text, in order. A dump without a banner is a failure of kind "other"."""
    reader = _Reader(text.text)
    reader.run()
    reader.match()
    host = host_of(text.text)
    failures = []
    line, counted = first_line, 0
    for banner in sorted(reader.banners, key=lambda b: b.at):
        line += text.text.count("\n", counted, banner.at)
        counted = banner.at
        dump = banner.dump
        failures.append(
            Failure(
                source=Source(path=path, line=line, vmm="qemu"),
                cpu=dump.cpu() if dump else None,
                cpu_shared=banner.shared,
                code=dump.code if dump else None,
                host=host,
                repairs=text.repairs,
                damage=(*banner.damage, *(dump.damage if dump else ())),
                **_outcome(banner),
            )
        )
    return Evidence(tuple(failures), format="QEMU log")


def _outcome(banner: _Banner) -> dict[str, Any]:
    fields = dict(banner.fields)
    if fields["kind"] == "internal-error":
        fields["data"] = tuple(banner.data)
        # Until "emulation failure", or the dump, has come, more words may have been cut off.
        fields["ndata"] = len(banner.data) if banner.closed else None
    return fields


class _Reader:
    """One pass over the tokens of a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.banners: list[_Banner] = []
        self.dumps: list[_Dump] = []
        self.open: list[_Dump] = []

    def run(self) -> None:
        at, search = 0, _TOKEN.search
        while token := search(self.text, at):
            name, first, more, code, head = token.groups()
            at = token.end()
            if head is not None:
                self._head(token.start(), head, at)
            elif code is not None:
                self._code(token.start(), code)
            elif name in {"RAX", "EAX"} and (whole := match_whole(self.text, token.start())):
                dump = self._open(token.start())
                dump.whole = whole.cpu
                self._finish(dump, whole.code)
                at = whole.end
            elif name in _ORDER:
                self._field(token.start(), name, first.strip(), more.split())

    # -- banners and words ------------------------------------------------------------------------

    def _head(self, at: int, head: str, end: int) -> None:
        text = self.text
        if head.startswith("xtra"):
            if number := _NUMBER.match(text, end):
                self._word(int(head[head.index("[") + 1 : head.index("]")]), int(number[0], 16))
        elif head == "mulation failure":
            waiting = [b for b in self.banners if b.fields.get("suberror") == 1 and not b.closed]
            if waiting:
                waiting[0].closed = True
        elif head.startswith("KVM internal"):
            if number := _DECIMAL.match(text, end):
                self.banners.append(_Banner(at, kind="internal-error", suberror=int(number[0]), exit_reason=17))
        elif head.startswith("rror"):
            message = _LINE.match(text, end)
            self._run_error(at, message[0] if message else "")
        elif head.startswith("KVM: exception"):
            if found := _EXCEPTION.match(text, end):
                vector, code = int(found[1]), int(found[2], 16)
                self.banners.append(
                    _Banner(at, kind="exception-exit", exception=vector, exception_error_code=code, exit_reason=1)
                )
        elif head.startswith("kvm_run"):
            # The old qemu-kvm printed the errno behind its banner.
            if (number := _DECIMAL.match(text, end)) and (name := _ERRNO_NUMBERS.get(int(number[0]))):
                if self.banners and "errno" not in self.banners[-1].fields:
                    self.banners[-1].fields["errno"] = name
                else:
                    self.banners.append(_Banner(at, kind="run-error", errno=name))
        elif head.startswith("unexpected"):
            last = self.banners[-1] if self.banners else None
            number = _NUMBER.match(text, end)
            if number and last and last.fields.get("suberror") == 4 and not last.data and not last.closed:
                last.data.append(int(number[0], 16))
                last.damage.append("the exit reason was taken from the kernel's message beside the banner")
        elif number := _NUMBER.match(text, end):
            self._hardware(at, head, number[0])

    def _hardware(self, at: int, head: str, digits: str) -> None:
        value = int(digits, 16)
        if head.startswith("KVM: entry") or (head.startswith("kvm: unhandled") and value >> 31 & 1):
            self.banners.append(_Banner(at, kind="entry-failure", hardware_error=value, exit_reason=9))
        elif head.startswith("KVM: unknown exit reason"):
            # Printed in decimal: a KVM_EXIT_* that this QEMU does not know.
            reason = int(digits) if digits.isdecimal() else None
            self.banners.append(_Banner(at, kind="other", exit_reason=reason))
        else:
            self.banners.append(_Banner(at, kind="unknown-exit", hardware_reason=value, exit_reason=0))

    def _run_error(self, at: int, message: str) -> None:
        message = message.strip()
        errno = next((name for words, name in _ERRNO.items() if message.startswith(words)), None)
        banner = _Banner(at, kind="run-error", errno=errno)
        if errno is None:
            banner.damage.append(f"the error {message[:60]!r} is not one that kvmwhy knows")
        self.banners.append(banner)

    def _word(self, index: int, value: int) -> None:
        fits = [
            b for b in self.banners if not b.closed and b.fields["kind"] == "internal-error" and len(b.data) == index
        ]
        if len(fits) == 1:
            fits[0].data.append(value)
        elif fits:
            # Words of several vCPUs in turn: which are whose cannot be known, unless all agree later.
            for banner in fits:
                banner.damage.append(f"extra data[{index}] {value:#x} may be another vCPU's; it is left out")
                banner.closed = len(fits) > 1
        elif self.banners:
            self.banners[-1].damage.append(f"extra data[{index}] {value:#x} does not follow the words before it")

    # -- registers and code -----------------------------------------------------------------------

    def _field(self, at: int, name: str, first: str, more: list[str]) -> None:
        position = _ORDER[name]
        if position == 0:
            self._open(at)
        dump = self._dump_for(position)
        if dump is None:
            if self.open or (self.dumps and position > 0):
                return  # a stray value of some other text
            dump = self._open(at)
        dump.last = position
        if len(first) in {9, 17} and first.endswith("e"):
            first = first[:-1]  # the "e" of a banner that another thread printed behind it
        if name in STATE:
            dump.state[name] = int(first, 16)
        elif name in SEGMENTS:
            self._segment(dump, name, [first, *more])
        elif name in TABLES:
            values = [first, *more]
            if len(values) >= 2 and len(values[0]) in {8, 16} and len(values[1]) == 8:
                dump.segments[name.lower()] = Segment(0, int(values[0], 16), int(values[1], 16), 0)
            else:
                dump.damage.append(f"{name} is cut: {' '.join(values)[:40]}")
        elif len(first) in _WIDTHS[name]:
            if name[0] in "RE" and name != "EFER" and dump.wide is None:
                dump.wide = name[0] == "R"
            dump.registers[_NAMES[name]] = int(first, 16)
        else:
            dump.damage.append(f"{name} is cut: {first}")

    def _segment(self, dump: _Dump, name: str, values: list[str]) -> None:
        widths = [len(v) for v in values[:4]]
        if widths[:1] == [4] and len(widths) == 4 and widths[1] in {8, 16} and widths[2:] == [8, 8]:
            selector, base, limit, attributes = (int(v, 16) for v in values[:4])
            dump.segments[name.lower()] = Segment(selector, base, limit, attributes)
        else:
            dump.damage.append(f"{name} is cut: {' '.join(values)[:40]}")

    def _open(self, at: int) -> _Dump:
        for banner in self.banners:
            banner.closed = True
        dump = _Dump(at)
        self.dumps.append(dump)
        self.open.append(dump)
        return dump

    def _dump_for(self, position: int) -> _Dump | None:
        """The open dump that this field continues; the newest, with a remark, if several fit."""
        fits = [d for d in self.open if d.last < position]
        # A dump that stopped short and one that goes on: the one that is next in line fits.
        exact = [d for d in fits if d.last == position - 1] or fits
        return exact[-1] if exact else None

    def _code(self, at: int, code: str) -> None:
        dump = self.open[0] if self.open else None
        if dump is None:
            if not code.strip():
                return  # some other program's Code=
            dump = self._open(at)
        self._finish(dump, read_code(code))

    def _finish(self, dump: _Dump, code: Code | None) -> None:
        """Code= is the last line of a dump."""
        self.open.remove(dump)
        dump.code = code
        if code is None:
            if dump.whole is None:
                dump.damage.append("Code= is empty")
        elif len(code.window) < _CODE_BYTES:
            dump.damage.append(f"Code= has {len(code.window)} bytes of {_CODE_BYTES}")

    # -- which dump belongs to which banner -------------------------------------------------------

    def match(self) -> None:
        for dump in self.dumps:
            waiting = [b for b in self.banners if b.dump is None and b.at < dump.at]
            if not waiting:
                banner = _Banner(dump.at, kind="other")
                banner.damage.append("the line that names the failure is missing; this is only a register dump")
                self.banners.append(banner)
            else:
                banner = waiting[0]
                if any(not banner.same_as(other) for other in waiting[1:]):
                    banner.shared = True
                    banner.damage.append(
                        f"{len(waiting)} failures were announced before this register dump;"
                        " it may belong to any of them"
                    )
            banner.dump = dump
            dump.damage.extend(_missing(dump))


def _missing(dump: _Dump) -> list[str]:
    if dump.whole or dump.code or "efer" in dump.registers:
        return []
    return ["the register dump is not complete"]
