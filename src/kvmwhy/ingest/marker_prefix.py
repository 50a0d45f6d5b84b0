"""What stands before every line and means nothing: line numbers, grep's file names, list marks, unknown prefixes.

A mark is taken off if all lines have it. A prefix of unknown form is learned from the lines whose beginning is known
(``line_starts``) and stands behind it, and then taken off all lines that have a prefix of that shape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from kvmwhy.deferred_re import deferred
from kvmwhy.ingest.escapes import unescape
from kvmwhy.ingest.multi_search import Seeker

_NUMBER: Final = deferred(r"[ \t]{0,12}(\d{1,7})(?:[.:)|-]? ?\| ?|[.:)|-]? |[.:)|-]?\t|[:-])")
_OF_GREP: Final = deferred(r"\d{1,7}[:-](?!\d)")
_MARK: Final = deferred(r"(?:# |- |\* |\+ |E {3,7}|\| |│ |; |// )")
_NAME: Final = deferred(r"[\w.@/-]{1,64} {1,40}\| ")  # one service of docker compose, one host of Zuul
_BRACKET: Final = deferred(r"\S{0,40}[^\[\]\n]{0,60}\[(?=[^\[\]]{0,100}[A-Za-z])[^\[\]\n]{1,120}\] ")  # Jenkins' branch
_HYPERVISOR: Final = "[NoirVisor] "  # prints it before each of its lines: it says whose failure it is
_STRING: Final = deferred(r'[ \t]{0,64}"((?:[^"\\\n]|\\.)*)",?[ \t]*')  # of a list in JSON, as Ansible shows output
_FILE: Final = deferred(r"((?:[\w.@+~-]{0,80}/)*[\w.@+~-]{1,120})([:-])(?:\d{1,9}\2)?")
_FILE_NAME: Final = deferred(r"/|\.(?:log|txt|out|err|dmesg|journal|gz)(?:\.\d+)?$")
_SURELY_FILE: Final = deferred(r"^\.{0,2}/|\.(?:log|txt|out|err|dmesg|journal|gz)(?:\.\d+)?$")
_STARTS: Final = (
    "KVM internal error. Suberror", "KVM: entry failed", "KVM: unknown exit", "error: kvm run failed", "extra data[",
    "emulation failure", "RAX=", "RSI=", "R8 =", "R12=", "RIP=", "EAX=", "ESI=", "EIP=", "ES =", "CS =", "SS =",
    "DS =", "FS =", "GS =", "LDT=", "TR =", "GDT=", "IDT=", "CR0=", "DR0=", "DR6=", "EFER=", "Code=",
    "*** Guest State", "*** Host State", "*** Control State", "CR0: actual=", "CR4: actual=", "CR3 = 0x", "RFLAGS=0x",
    "CS:   sel=", "DS:   sel=", "SS:   sel=", "ES:   sel=", "FS:   sel=", "GS:   sel=", "GDTR: ", "LDTR: sel=",
    "IDTR: ", "TR:   sel=", "PinBased=", "EntryControls=", "ExceptionBitmap=", "VMEntry: intr_info=",
    "VMExit: intr_info=", "IDTVectoring: info=", "VMCB Control Area", "VMCB State Save Area", "cr_read: ",
    "cr_write: ", "exit_code: ", "exit_info1: ", "exit_info2: ", "es:   s: ", "cs:   s: ", "ss:   s: ", "ds:   s: ",
    "cpl: ", "cr0: ", "rip: ", "rsp: ", " PC=", "X00=", "NIP ", "GPR00 ",
)  # fmt: skip
_START: Final = deferred("|".join(map(re.escape, _STARTS)))
_FEWEST: Final = 3  # lines with one prefix
_FEW_NAMED: Final = 3
_COMMON: Final = (
    "KVM internal error. S", "KVM: entry failed", "RAX=", "EAX=", "extra data[", "CR0=", "*** Guest State",
    "CR0: actual=", "CS:   sel=", "VMCB Control Area", "cr_read: ", "exit_code: ", "es:   s: ", "Code=", "X00=",
    "NIP ",
)  # fmt: skip
_NEWLINE: Final = 10
_seek: Final = Seeker([start.encode() for start in _COMMON])
# Each by itself: ``re`` skips to a first character that is given, and tries an alternation at every one.
_LOGS: Final = tuple(
    map(
        deferred,
        (
            r"<\d{1,3}>[A-Z\[\d]",
            r"\{\"",
            r"\[ {0,8}\d{1,9}\.\d{1,9}\]",
            r"[0-9]\d{3}-\d\d-\d\d[T ]\d\d:\d\d:",
            r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:",
            r"time=\"",
        ),
    )
)
_LONGEST: Final = 160
_MOST_LINES: Final = 4000
_MOST_SHAPES: Final = 4
_MOST_KEPT: Final = 1000
_RUN: Final = deferred(r"\d+(?![A-Za-z])|[0-9A-Za-z]*\d[0-9A-Za-z]*|[ \t]+|[:-]")
# What belongs to the line itself: a module's, a program's name; Xen's mark, which says whose failure it is.
_OWN: Final = deferred(
    r"(?:(?:kvm\w{0,16}|SVM|SEV[\w-]{0,8}|[\w/.-]{0,80}qemu[\w-]{0,40})(?: \[\d{1,10}\])?:"
    r"|\((?:XEN|d\d{1,5}(?:v\d{1,5})?)\)) {1,4}$"
)


def without_marks(lines: Sequence[str]) -> list[str] | None:
    """The lines without the mark, the number or the file name that all of them have; ``None`` if they have none."""
    if not (first := next((line for line in lines if line.strip()), "")):
        return None
    if _NUMBER.match(first):
        return _numbered(lines)
    if match := _MARK.match(first) or _NAME.match(first):
        return _marked(lines, match[0])
    if _STRING.fullmatch(first):
        return _strings(lines)
    if _BRACKET.match(first):
        return _in_brackets(lines)
    if pattern := of_file(lines):
        bare = without(lines, pattern)
        return (
            bare
            if all(not line.strip() or line is not other for line, other in zip(lines, bare, strict=True))
            else None
        )
    return None


def _numbered(lines: Sequence[str]) -> list[str] | None:
    """Each number is that of the line before and one."""
    out, right, wrong, last = [], 0, 0, None
    for line in lines:
        match = _NUMBER.match(line) or re.fullmatch(r"[ \t]*(\d{1,7})[.:)|-]?", line)
        if match is None:
            wrong += bool(line.strip())
            out.append(line)
            last = last and last + (not line.strip())
            continue
        number = int(match[1])
        right += last is not None and number == last + 1
        wrong += last is not None and number != last + 1
        last = number
        out.append(line[match.end() :])
    if right + wrong < 2 and not wrong:  # of grep -n, for a line or two
        return out if all(_OF_GREP.match(line) for line in lines if line.strip()) else None
    return out if right >= 2 and wrong <= right // 8 else None


def _marked(lines: Sequence[str], mark: str) -> list[str] | None:
    bare, least = mark.rstrip(), len(mark)
    if any(line.strip() and not line.startswith(mark) and line.rstrip() != bare for line in lines):
        return None
    return [line[least:] for line in lines]


def _in_brackets(lines: Sequence[str]) -> list[str] | None:
    """What all lines have in common up to a bracket's end: a logger's request, a branch of a build."""
    filled = [line for line in lines if line.strip()]
    if len(filled) < _FEW_NAMED:
        return None
    shared = _shared(min(filled), max(filled))
    match = _BRACKET.match(shared)
    if match is None or match[0].endswith(_HYPERVISOR):
        return None
    return [line[match.end() :] for line in lines]


def _shared(first: str, other: str) -> str:
    size = next((n for n, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), min(len(first), len(other)))
    return first[:size]


def _strings(lines: Sequence[str]) -> list[str] | None:
    found = [_STRING.fullmatch(line) for line in lines if line.strip()]
    if not all(found):
        return None
    return [unescape(match[1]) if (match := _STRING.fullmatch(line)) else line for line in lines]


def of_file(lines: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern of grep's prefix, if many lines have the name of the same file before them: a broken one has none."""
    first = next((line for line in lines if line.strip()), "")
    match = _FILE.match(first)
    if match is None:
        return None
    from kvmwhy.ingest.line_starts import STAMPED

    # A part of the kernel has a slash in its name, too ("virt/tdx: "), but a blank behind it.
    text_follows = bool(first[match.end() :][:1].strip())
    if STAMPED.match(first) or not (_SURELY_FILE.search(match[1]) or text_follows):
        return None
    pattern = re.compile(re.escape(match[1]) + r"([:-])(?:\d{1,9}\1)?")
    named = sum(pattern.match(line) is not None for line in lines)
    if named < _FEW_NAMED and (match[2] == "-" or not _FILE_NAME.search(match[1])):
        return None
    return pattern if named * 4 >= len(lines) else None


def may_be_learned(text: str) -> bool:
    """Whether a line whose beginning is known has something before it."""
    data = text.encode("utf-8", "replace")
    if any(at and data[at - 1] != _NEWLINE for _, at, _ in _seek(data)):
        return True
    return _log_at(text) is not None


def _log_at(line: str) -> int | None:
    """Where a line of some log begins within this one."""
    return min((match.start() for log in _LOGS if (match := log.search(line, 1, _LONGEST))), default=None)


def learned(lines: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern of what stands before the lines whose beginning is known, unless it is a collector's own prefix."""
    from kvmwhy.ingest.line_starts import STAMPED
    from kvmwhy.ingest.log_prefix import peel

    shapes: Counter[str] = Counter()
    for line in lines[:_MOST_LINES]:
        if STAMPED.match(line) or (at := _known_at(line)) is None:
            continue
        before = _OWN.sub("", line[:at])
        shape = _shape(before)
        if before.strip() and (shape in shapes or (len(shapes) < _MOST_KEPT and peel(line) is None)):
            shapes[shape] += 1
    often = [(shape, count) for shape, count in shapes.most_common(_MOST_SHAPES) if count >= _FEWEST]
    if not often:  # as in any log whose lines all have a stamp
        return None
    known = sum(_known_at(line) is not None for line in lines[:_MOST_LINES])
    chosen = [shape for shape, count in often if count * 8 >= known]
    return re.compile("|".join(map(_pattern, chosen))) if chosen else None


def _known_at(line: str) -> int | None:
    """Where something begins in a line whose beginning is known."""
    match = _START.search(line, 0, _LONGEST)
    return match.start() if match else _log_at(line)


def without(lines: Sequence[str], prefix: re.Pattern[str]) -> list[str]:
    return [line[match.end() :] if (match := prefix.match(line)) else line for line in lines]


def _shape(prefix: str) -> str:
    """Numbers are as good as each other, so are spaces, and grep's two separators."""
    return _RUN.sub(_kind, prefix)


def _kind(run: re.Match[str]) -> str:
    text = run[0]
    return " " if text.isspace() else ":" if text in ":-" else "0" if text.isdecimal() else "\x01"


def _pattern(shape: str) -> str:
    """Of the shape; the spaces at its end may be missing, unless a word is before them."""
    parts = {"0": r"\d{1,20}+", "\x01": r"(?=[A-Za-z]{0,40}\d)[0-9A-Za-z]{1,64}+", " ": r"[ \t]{1,80}+", ":": "[:-]"}
    bare = shape.rstrip(" ")
    end = "" if bare == shape else "[ \t]{1,16}" if bare[-1:].isalnum() or bare[-1:] == "\x01" else "[ \t]?"
    return "".join(parts.get(c) or re.escape(c) for c in bare) + end
