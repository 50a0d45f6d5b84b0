"""The format-ignorant dump of a record: ``data[i] = 0x…``, one word a line."""

from __future__ import annotations

import re

from kvmwhy.abi.hexdump import read_dump
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.record import Failure, Source

_WORD = re.compile(r"\bdata\[\s*\d+\s*\]\s*=")


def detect(text: str) -> bool:
    return "data[" in text and _WORD.search(text) is not None


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    dump = read_dump(text.text)
    if dump is None:
        return Evidence()
    damage = list(dump.damage)
    if dump.suberror is None:
        damage.append("the dump does not say which suberror it is; 1 (emulation failure) is assumed")
    found = _WORD.search(text.text)
    line = first_line + text.text.count("\n", 0, found.start()) if found else first_line
    failure = Failure(
        kind="internal-error",
        source=Source(path=path, line=line),
        suberror=1 if dump.suberror is None else dump.suberror,
        ndata=len(dump.data) if dump.ndata is None else dump.ndata,
        data=dump.data,
        exit_reason=17,
        repairs=text.repairs,
        damage=tuple(damage),
    )
    return Evidence((failure,), format="word dump")
