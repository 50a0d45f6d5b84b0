"""What the page's worker calls: one input, read as the browser gives it, to the page and the JSON of its failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from kvmwhy.report import InputLimits, report

_LIMITS: Final = InputLimits(unpacked=1 << 30)
_READ_AHEAD: Final = 1 << 20


class Answer(NamedTuple):
    """``page`` is empty where no failure was found; ``json`` has one object a line."""

    page: str
    json: str
    remarks: list[str]


def explain(read: Callable[[int, int], bytes], size: int, name: str | None, now: float) -> Answer:
    """Explain an input of ``size`` bytes; ``read`` gives those from one offset to another."""

    def chunks() -> Iterator[bytes]:
        for at in range(0, size, _READ_AHEAD):
            yield read(at, min(size, at + _READ_AHEAD))

    answer = report(chunks(), name or None, made=datetime.fromtimestamp(now, UTC), limits=_LIMITS)
    return Answer(
        page=answer.page or "",
        json="".join(line.decode() + "\n" for line in answer.json),
        remarks=list(answer.remarks),
    )
