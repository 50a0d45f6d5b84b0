"""A record whose words somebody printed without knowing what they mean.

data[0] = 0x80000b0e                                                    one word a line
{suberror = 1, ndata = 4, data = {0x1, 0x31, 0x0 <repeats 14 times>}}   gdb's ``print run->internal``
InternalError { suberror: 1, ndata: 4, data: [1, 49, 0, 0] }            Rust's Debug; Go's and Python's are alike
"""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.abi import literal
from kvmwhy.abi.hexdump import Dump, read_dump
from kvmwhy.abi.internal_error import MAX_NDATA
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.record import Failure, Source

_WORD: Final = re.compile(r"\bdata\[\s{0,8}\d{1,3}\s{0,8}\]\s{0,8}[=:]")
_NUMBER: Final = r"(?:0x[0-9a-fA-F]{1,16}|\d{1,20})"
_IS: Final = r"['\"]?\s{0,8}[:=]\s{0,8}"
_STRUCTURE: Final = re.compile(
    rf"\bsuberror{_IS}({_NUMBER})\b[^{{}}\[\]\n]{{0,80}}?(?:\bndata{_IS}({_NUMBER})\b[^{{}}\[\]]{{0,80}}?)?"
    rf"\bdata{_IS}[\[{{(]([^\]}})]{{0,600}})",
    re.IGNORECASE,
)
_WORDS_OF_A_RECORD: Final = 2
_ITEM: Final = re.compile(rf"['\"]?({_NUMBER})['\"]?(?:\s{{0,4}}<repeats (\d{{1,4}}) times>)?")


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """One record; of several structures, each."""
    body = text.text
    failures: list[Failure] = []
    line, counted = first_line, 0
    for structure in _STRUCTURE.finditer(body):
        line += body.count("\n", counted, structure.start())
        counted = structure.start()
        failures.append(_failure(_dump_of(structure), text, path, line))
    if not failures and (at := _WORD.search(body)) and (dump := read_dump(body)) is not None:
        failures.append(_failure(dump, text, path, first_line + body.count("\n", 0, at.start())))
    return Evidence(tuple(failures), format="word dump" if failures else None)


def words_in(text: str) -> Dump | None:
    """The first record of a text, whatever its form."""
    structure = _STRUCTURE.search(text)
    return _dump_of(structure) if structure else read_dump(text)


def _failure(dump: Dump, text: Text, path: str | None, line: int) -> Failure:
    damage = list(dump.damage)
    # QEMU prints the suberror above its words: here that line is torn off, and the words may be of any.
    # One word alone, or words that do not begin with the first, are a piece of some dump, perhaps of QEMU's.
    suberror = dump.suberror
    piece = len(dump.data) < _WORDS_OF_A_RECORD or "xtra data[" in text.text
    if suberror is None and piece:
        damage.append("the line with the number of the suberror is missing")
    elif suberror is None:
        suberror = 1
        damage.append("the dump does not say which suberror it is; 1 (emulation failure) is assumed")
    whole = None if dump.apart or (piece and suberror is None) else len(dump.data)
    return Failure(
        kind="internal-error",
        arch="x86",
        arch_from="the announcement",
        source=Source(path=path, line=line),
        suberror=suberror,
        ndata=whole if dump.ndata is None else dump.ndata,
        data=dump.data,
        data_apart=dict(dump.apart),
        exit_reason=17,
        repairs=text.repairs,
        damage=tuple(damage),
    )


def _dump_of(structure: re.Match[str]) -> Dump:
    suberror, ndata, items = structure.groups()
    words: list[int] = []
    for item, repeats in _ITEM.findall(items):
        words += [literal.number(item)] * min(int(repeats or 1), MAX_NDATA)
    count = None if ndata is None else literal.number(ndata)
    shown = words[: MAX_NDATA if count is None else min(count, MAX_NDATA)]  # the array is longer than what is valid
    if all(word < 1 << 64 for word in shown):
        return Dump(literal.number(suberror), count, tuple(shown))
    return Dump(literal.number(suberror), count, (), ("a word has more than 64 bits",))
