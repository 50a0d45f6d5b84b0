"""Lines that a mailer or a terminal broke, joined again; lines that were apart stay apart.

A line is taken for broken only if all of these hold: it is one of a log, a dump or a VMM (``line_starts``); what stands
below it begins like no such line; and it goes as far as the lines around it do, so that the next word had no room.
One such place in a text can be chance: then the line must also end in the middle of something. Mailers break at a
space, which is lost, terminals at a column. A text that was broken twice has short remainders.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Final

from kvmwhy.abi.kvm_run import EXITS
from kvmwhy.ingest.line_starts import BREAKABLE, DUMPED, KNOWN, SPEAKS, STAMPED, STRONG

_LEAST_COLUMN: Final = 56  # where mailers break lines, less the word that had no room
_NARROWEST: Final = 24  # of what is left of a line that was broken in front of a long word
_WIDEST: Final = 250  # terminals
_SECOND: Final = 16  # what a second break leaves is at most so long: 80 columns and a quote's mark, at 72
_MOST_PIECES: Final = 200
_INNER_SPACE: Final = re.compile(r"\S +\S")
_FIRST_WORD: Final = re.compile(r"\s*(\S{1,250})")
_LAST_WORD: Final = re.compile(r"[\w.:=/\[\]-]{0,80}\Z")
_NEXT_WORD: Final = re.compile(r"[\w.:=/\[\]-]{0,80}")
_WORD: Final = re.compile(r"[\w.:=\[\]-]+")
_HEX: Final = re.compile("[0-9a-f]")
_CAPITAL: Final = re.compile("[A-Z]")
_DIGITS: Final = re.compile(r"(?:=|0x|[ :]|\A)([0-9a-f]{1,16})\Z")
_DIGITS_FIRST: Final = re.compile(r"[0-9a-f]{1,16}(?![\w=])")
_AFTER_ZERO: Final = re.compile(r"x[0-9a-f]{1,16}\b")
_WIDTHS: Final = {2, 4, 8, 16}
_PADDED: Final = {8, 16}  # a number that is shorter may have any width
_STOPS: Final = (",", ";")
_MANY: Final = 5  # breaks at one column that are no chance
_SURE: Final = 2  # places at which a line may be broken
_VALUES: Final = re.compile(r"(?:[0-9a-fA-Z?<>=\[\] \t#-]|busy|[id]idx|[a-z]{2,3} (?=[0-9a-f]{16}))+")
_LABEL: Final = re.compile(
    r"(?:[A-Za-z]\S{0,40} )?[A-Za-z/.][\w./+()-]{1,60}(?:\[\d{1,10}\])?:(?:\s|$)|\[[\w-]{1,40}:[^\]\n]{1,100}\] "
    r"|[*#@%]\W{0,3}\w|\W+$"
)
_NEW: Final = re.compile(r"[A-Z](?![A-Z0-9]{0,40}_)|\W")
# What begins a column of a VMCS or VMCB dump, or of a trace, behind spaces.
_COLUMN: Final = re.compile(r"(?:limit=0x|\d{1,10}\.\d{3,9}: |(?!0x)[a-z][a-z_0-9]{1,15}: {0,16}[0-9a-f]{1,16}$)")
_RECORD: Final = re.compile(r"\{ ?\"|(?:time|ts)=(?=[\"\d])")  # of JSON, of logfmt
_RUNS: Final = re.compile(r"\d+|[A-Za-z]+")
_CLOSED: Final = (".", ")", "'", '"', "!", ";", "]", "}")
_OPEN: Final = (":", ",", "=", "(", " ")  # of a line that goes on
# Words of the lines in which VMMs say that a vCPU failed, which are often alone in a text.
_LEXICON: Final = (
    "KVM_RUN", "KVM_EXIT_INTERNAL_ERROR", "KVM_EXIT_FAIL_ENTRY", "KVM_EXIT_SHUTDOWN", "KVM_CREATE_VM",
    "InternalError", "FailEntry", "VcpuRun", "VcpuExit", "hardware_entry_failure_reason", "suberror", "kvm", "KVM",
    "vcpu", "VCPU", "vCPU", "Vcpu", "exit", "error", "error:", "Error", "failed", "failed:", "Failed", "Failure",
    "failure", "Received", "Unexpected", "unexpected", "unknown", "internal", "Internal", "hardware", "reason",
    "reason:", "signal", "signal:", "entry", "run", "during", "vm", "VM", "on", "to", "of", "the", "at", "with",
    "from", "in", "is", "cpu", "Bad", "address", "Device", "or", "resource", "busy", "os", "Invalid", "argument",
    "Cannot", "allocate", "memory", "Function", "not", "implemented", "generated", "WARN", "ERROR", "INFO", "host",
    "guest", "thread", "panicked", "system", "event", "type", "flag", "flags", "instruction", "emulation", "emulate",
    "shutdown", "command", "received", "unhandled", "exception", "error_code", "starting", "when", "Unknown",
    "Unsupported", "unsupported", "KVM_SYSTEM_EVENT", "MemoryFault", "Shutdown", "SystemEvent", "Hypercall",
    "src", "vmm", "vstate", "linux", "ndata",
    *(f"KVM_EXIT_{each.name}" for each in EXITS.values()),
)  # fmt: skip
_MOST_WORDS: Final = 20_000
_TEARABLE: Final = frozenset(word.rstrip(":") for word in _LEXICON)
_LAST_PART: Final = re.compile(r"(?<![\w.-])\w{1,40}\Z")
_FIRST_PART: Final = re.compile(r"\w{1,40}(?![\w-])")

Matches = Callable[[str], object]


class Piece:
    """A line without its quoting, and the columns that it took with it: without trailing spaces, and with them."""

    __slots__ = ("full_width", "text", "width")

    def __init__(self, text: str, full_width: int) -> None:
        self.text = text
        self.full_width = full_width
        self.width = full_width - len(text) + len(text.rstrip())


def rejoin(lines: Sequence[Piece], stamped: Matches = STAMPED.match) -> list[tuple[int, str]]:
    """The lines, each with the index of its first piece. ``stamped``: whether a line begins with a log's stamp."""
    paragraphs: list[tuple[int, _Paragraph]] = []
    start, size = 0, len(lines)
    while start < size:
        end = start
        while end < size and lines[end].width:
            end += 1
        while end < size and not lines[end].width:
            end += 1
        paragraphs.append((start, _Paragraph(lines[start:end], stamped)))
        start = end
    if all(paragraph.unbroken for _, paragraph in paragraphs):
        return [(n, piece.text) for n, piece in enumerate(lines)]
    places = sum(paragraph.places() for _, paragraph in paragraphs)
    out: list[tuple[int, str]] = []
    for start, paragraph in paragraphs:
        joins = paragraph.joins(sure=places >= _SURE)
        out += ((start + n, text) for n, text in _joined(paragraph.lines, joins))
    return out


def _joined(lines: Sequence[Piece], joins: dict[int, str]) -> list[tuple[int, str]]:
    """``joins``: what goes before a line that continues the one above."""
    out: list[tuple[int, list[str]]] = []
    for n, piece in enumerate(lines):
        glue = joins.get(n)
        if glue is None:
            out.append((n, [piece.text]))
        elif glue:
            before = out[-1][1]
            before[-1] = before[-1].rstrip(" \t")
            before += (" ", piece.text.lstrip(" \t"))
        else:
            out[-1][1].append(piece.text)
    return [(n, "".join(parts)) for n, parts in out]


class _Paragraph:
    """Lines without an empty one between: what broke them broke all of them at one column."""

    def __init__(self, lines: Sequence[Piece], stamped: Matches) -> None:
        self.lines = lines
        self.stamped = stamped
        self.sure = self.cut = False
        begun = [bool(stamped(p.text)) or (None if KNOWN.match(p.text) is None else False) for p in lines]
        # If so, a line that has no stamp is no line's beginning.
        self.all_stamped = begun.count(True) > begun.count(False)
        later = {begins for begins, piece in zip(begun[1:], lines[1:], strict=True) if piece.width}
        self.whole = later <= ({True} if self.all_stamped else {True, False})
        self.whole = self.whole and not any(_RECORD.match(p.text) for p in lines)

    @cached_property
    def column(self) -> int:
        """The widest line that may be broken."""
        return max((p.width for p in self.lines if p.width <= _WIDEST and _INNER_SPACE.search(p.text)), default=0)

    @cached_property
    def unbroken(self) -> bool:
        """Whether no line can be a part of the one above."""
        if self.whole or len(self.lines) < 2 or self.column < _LEAST_COLUMN:
            return True
        return any(p.width > self.column and _INNER_SPACE.search(p.text, _WIDEST // 2) for p in self.lines)

    @cached_property
    def words(self) -> list[int]:
        """The length of each line's first word; behind the last is none."""
        return [*(len(match[1]) if (match := _FIRST_WORD.match(piece.text)) else 0 for piece in self.lines), 0]

    def places(self) -> int:
        """At how many places a line may be broken, which no line begins behind for all that can be seen."""
        if self.unbroken:
            return 0
        return sum(
            self.lines[n].width >= _NARROWEST and self._no_room(n) and self._continues(n, n + 1, sure=False)
            for n in range(len(self.lines) - 1)
        )

    def joins(self, *, sure: bool) -> dict[int, str]:
        """The lines that continue the one above, with what goes between; ``sure``: there are more such places."""
        if self.unbroken:
            return {}
        self.sure = sure
        column = max(p.width for p in self.lines)
        self.cut = True
        by_column = self._chains(lambda n: column in {self.lines[n].width, self.lines[n].full_width})
        self.cut = False
        if by_column and column >= self.column and self._is_cut(by_column, column):
            return {n: "" for chain in by_column for n in chain[1:]}
        second = self._second_column()
        chains = self._chains(self._no_room, second)
        if chains:
            chains = self._chains(lambda n: self._no_room(n) or self._is_padded(n), second)
        return {n: " " for chain in chains for n in chain[1:]}

    def _chains(self, is_full: Callable[[int], bool], second: int = 0) -> list[list[int]]:
        """The pieces of each line that is broken. ``second``: where the lines were broken before."""
        out = []
        n, size = 0, len(self.lines)
        while n + 1 < size:
            if self.lines[n].width < _NARROWEST or not is_full(n) or not self._continues(n, n + 1):
                n += 1
                continue
            chain = [n, n + 1]
            while (last := chain[-1]) + 1 < size and len(chain) < _MOST_PIECES and self._continues(n, last + 1):
                if not (is_full(last) or (second and is_full(last - 1) and self._is_remainder(n, last, second))):
                    break
                chain.append(last + 1)
            out.append(chain)
            n = chain[-1] + 1
        return out

    def _is_remainder(self, first: int, n: int, second: int) -> bool:
        """Whether a line is what the second break left of one that the first had broken; it may have lost spaces."""
        width = self.lines[n - 1].width + 1 + self.lines[n].width + 1 + self.words[n + 1]
        return width > second or self.stamped(self.lines[first].text) is not None

    def _is_cut(self, chains: list[list[int]], column: int) -> bool:
        """Whether lines were cut at a column: most that go on go that far; who folds at spaces stops before it."""
        exact = sum(len(chain) - 1 for chain in chains)
        short = sum(
            piece.width >= _NARROWEST
            and column not in {piece.width, piece.full_width}
            and self._no_room(n)
            and self._continues(n, n + 1)
            for n, piece in enumerate(self.lines[:-1])
        )
        if short >= exact:
            return False
        words, spaces = _votes(self.lines, chains)
        if words + spaces > 0 and (words > 0 or spaces > _SURE):
            return True
        return words + spaces >= -(exact // 16) and exact >= _MANY and short * _MANY <= exact

    def _second_column(self) -> int:
        """Where the lines were broken first, if what was broken then was broken again."""
        widths = [
            width
            for n in range(len(self.lines) - 2)
            if (width := self.lines[n].width + 1 + self.lines[n + 1].width) <= self.column + _SECOND
            and self._no_room(n)
            and self._continues(n, n + 1)
            and self._continues(n, n + 2)
        ]
        return max(widths, default=0)

    def _no_room(self, n: int) -> bool:
        """Whether the next line's first word had no room on this one."""
        return self.lines[n].width + 1 + self.words[n + 1] > self.column

    def _is_padded(self, n: int) -> bool:
        """Whether it may be spaces that had no room: the line is not at its end, or two columns of a dump are torn."""
        text, below = self.lines[n].text, self.lines[n + 1].text if n + 1 < len(self.lines) else ""
        return text[-1:] in _OPEN or (_COLUMN.match(below) is not None and self.stamped(text) is not None)

    def _is_repeated(self, n: int) -> bool:
        """Whether a neighbour is the same line: of a flood of one line all have one width, and none is broken."""
        return any(0 <= m < len(self.lines) and self.lines[m].text == self.lines[n].text for m in (n - 1, n + 1))

    def _continues(self, first: int, n: int, *, sure: bool | None = None) -> bool:
        """Whether a line can be a part of the one that begins at ``first``."""
        head, text = self.lines[first].text, self.lines[n].text
        if record := _RECORD.match(head):
            above = self.lines[n - 1].text.rstrip()
            return bool(text.strip()) and not text.startswith(record[0]) and not above.endswith("}")
        stamped = bool(self.stamped(head))
        if not stamped and not BREAKABLE.match(head) and (not SPEAKS.search(head) or head[:1] in " \t"):
            return False
        if not text.strip() or self.stamped(text) or (STRONG if stamped and self.all_stamped else KNOWN).match(text):
            return False
        if not stamped and DUMPED.match(head):
            return _VALUES.fullmatch(text) is not None
        above = self.lines[n - 1].text
        if self._is_repeated(n) and _VALUES.fullmatch(text) is None:  # of values pieces can be equal
            return False
        if not self.cut and text[:1] in " \t":
            return False
        if not (stamped or BREAKABLE.match(head)) and _outline(head) == _outline(text):
            return False
        if _tears_a_word(above, text):
            return True
        labelled = _LABEL.match(text)
        # What was broken once is broken again where it is as long as that.
        if n - first > 1 or (self.sure if sure is None else sure):
            return not (labelled and above.rstrip()[-1:] in _CLOSED)
        if above.rstrip()[-1:] in _OPEN or _is_open(above):
            return True
        if stamped:
            return not labelled
        return not labelled and _NEW.match(text) is None and above.rstrip()[-1:] not in _CLOSED


def _tears_a_word(above: str, below: str) -> bool:
    """Whether a word that VMMs print stands across the break, of which at least one part is none."""
    last, first = _LAST_PART.search(above), _FIRST_PART.match(below)
    if last is None or first is None or last[0] + first[0] not in _TEARABLE:
        return False
    return not {last[0], first[0]} <= _TEARABLE


def _is_open(text: str) -> bool:
    """Whether a bracket or a quotation mark is not closed."""
    return any(text.count(a) > text.count(b) for a, b in ("()", "[]", "{}")) or text.count('"') % 2 == 1


def _outline(text: str) -> str:
    """How a line's first word looks."""
    return _RUNS.sub(lambda m: "0" if m[0].isdecimal() else "a", text.split(None, 1)[0])


def _votes(lines: Sequence[Piece], chains: list[list[int]]) -> tuple[int, int]:
    """What the words at the breaks say, positive for cut ones; and how many breaks have a space beside them."""
    known = _words(lines)
    votes = spaces = 0
    for chain in chains:
        for n in chain[:-1]:
            above, below = lines[n].text, lines[n + 1].text
            if above[-1:] == " " or below[:1] == " ":
                spaces += 1
            elif above[-1:] in _STOPS and below[:1].isalnum():  # a space followed here
                votes -= 1
            else:
                last, first = _LAST_WORD.search(above), _NEXT_WORD.match(below)
                votes += (
                    1
                    if _tears_a_word(above, below)
                    else _vote(last[0] if last else "", first[0] if first else "", known)
                )
    return votes, spaces


def _vote(head: str, tail: str, known: set[str]) -> int:
    """Positive if two ends of words belong together, negative if they are words themselves."""
    if not head or not tail:
        return 0
    if "/" in head and ("/" in tail or "." in tail):
        return 1
    digits, more = _DIGITS.search(head), _DIGITS_FIRST.match(tail)
    if digits and more:
        size, rest = len(digits[1]), len(more[0])
        both = size in _WIDTHS and rest in _WIDTHS
        return int(not both) if size + rest in _WIDTHS else -int(size in _PADDED)
    if head.endswith("0") and _AFTER_ZERO.match(tail):
        return 1
    tail = tail.rstrip(":")
    whole, parts = _shape(head + tail) in known, (_shape(head) in known, _shape(tail) in known)
    return (whole and not all(parts)) - (all(parts) and not whole)


def _words(lines: Sequence[Piece]) -> set[str]:
    """The words inside of lines, each digit as good as another; those at the ends may be broken."""
    words = {_shape(word) for word in _LEXICON}
    for piece in lines:
        inside = piece.text.split()[1:-1]
        words.update(_shape(word) for part in inside for word in _WORD.findall(part))
        if len(words) > _MOST_WORDS:
            break
    return words


@lru_cache(maxsize=4096)  # a log's lines have the same words again and again
def _shape(word: str) -> str:
    return _CAPITAL.sub("A", _HEX.sub("0", word))
