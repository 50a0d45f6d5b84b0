"""Forms against kernels, as a table for a terminal: this host's kernel first, then the measured ones, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmwhy.emulator.atlas import Row, Version
from kvmwhy.emulator.measured import Measured
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

_LONGEST: Final = 34  # of a form's text
_MODES: Final = {"real16": "real mode", "prot16": "16-bit code", "prot32": "32-bit code", "long64": "64-bit code"}
_EXCEPTIONS: Final = {0: "#DE", 6: "#UD", 7: "#NM", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF"}
_WORDS: Final = {"fails": "no", "no-exit": "hang", "endless": "loop", "shutdown": "triple", "refused": "?"}
_MARK: Final = "*"


class _Column(NamedTuple):
    """``number`` is the measured kernel's in a row; None: this host's, which was not measured."""

    head: str
    number: int | None


def matrix(rows: Sequence[tuple[Row, str]], *, here: Version | None) -> list[Line]:
    """``here``: the version of the kernel that stands first, if there is one."""
    columns = _columns(rows[0][0], here)
    table = [("", *(column.head for column in columns))]
    table += [(_cut(safe(text)), *(_word(row, column, here) for column in columns)) for row, text in rows]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns) + 1)]
    texts = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    lines = [Line(text, "plain" if n else "head", whole=True) for n, text in enumerate(texts)]
    return [*lines, Line(), *_key(rows, here, {cell for line in table[1:] for cell in line[1:]})]


def _columns(row: Row, here: Version | None) -> list[_Column]:
    measured = [
        (kernel.vendor != "svm", kernel.series, index)
        for index, kernel in enumerate(row.kernels)
        if not kernel.module_args
    ]
    columns = [
        _Column(f"{'vmx ' if vmx else ''}{major}.{minor}", index) for vmx, (major, minor), index in sorted(measured)
    ]
    if here is None:
        return columns
    mine = f"{here[0]}.{here[1]}"
    index = next((column.number for column in columns if column.head == mine), None)
    return [_Column(mine + _MARK, index), *(column for column in columns if column.head != mine)]


def _word(row: Row, column: _Column, here: Version | None) -> str:
    if column.number is not None:
        return short(row.verdicts[column.number])
    assert here is not None  # noqa: S101 -- only its column has no index
    answer = row.in_kernel(here)
    if answer.changed:
        return "?"
    known = answer.below or answer.above
    return short(answer.verdict or (known[1] if known else None))


def short(verdict: Measured | None) -> str:
    """At most six letters."""
    if verdict is None:
        return "-"
    if verdict.kind == "emulated":
        return "WRONG" if verdict.compared == "wrong" else "yes"
    if verdict.kind == "exception":
        return _EXCEPTIONS.get(verdict.code, f"#{verdict.code}")
    return _WORDS.get(verdict.kind, verdict.kind)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _key(rows: Sequence[tuple[Row, str]], here: Version | None, used: set[str]) -> list[Line]:
    meanings = {
        "yes": "carried out", "WRONG": "carried out, unlike a CPU", "no": "KVM gives up (suberror 1)",
        "hang": "never ends", "loop": "the same accesses for ever", "triple": "the guest ends in a triple fault",
        "?": "it changed between the measured kernels around this one", "-": "not measured",
    }  # fmt: skip
    legend = [f"{word}: {meaning}" for word, meaning in meanings.items() if word in used]
    legend += ["#…: the guest gets this exception"] if any(word.startswith("#") for word in used) else []
    modes = dict.fromkeys(_MODES[row.mode] for row, _ in rows)
    lines = [Line("; ".join(legend) + f". In {', '.join(modes)}.", "dim")]
    if here is not None:
        measured = any(kernel.series == here for kernel in rows[0][0].kernels)
        note = "" if measured else ", which was not measured: what its neighbours do"
        lines.append(Line(f"{_MARK} the kernel that was asked for, or this host's{note}.", "dim"))
    return lines
