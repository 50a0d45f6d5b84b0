"""Equal failures once, with their count: a VMM that goes on may repeat one for hours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from kvmwhy.record import Failure, Source

MOST: Final = 10_000  # distinct ones that are kept


class Distinct:
    """Failures in the order of their first appearance. Equal are those of one thread, time and history apart."""

    def __init__(self) -> None:
        self._first: dict[tuple[object, ...], Failure] = {}
        self._count: dict[tuple[object, ...], int] = {}
        self._last: dict[tuple[object, ...], Source] = {}
        self.left_out = 0

    def add(self, failures: Iterable[Failure]) -> None:
        for failure in failures:
            words = failure.exit and (failure.exit.reason, failure.exit.info1, failure.exit.info2)
            key = (
                *(failure.source.writer, failure.source.vcpu),
                *(failure.kind, failure.emulation, words, failure.silent),
                *(failure.exit_reason, failure.errno, failure.damage),
            )
            if key in self._count:
                self._count[key] += 1
                self._last[key] = failure.source
            elif len(self._first) < MOST:
                self._first[key], self._count[key] = failure, 1
            else:
                self.left_out += 1

    def failures(self) -> tuple[Failure, ...]:
        self._fold_headless()
        return tuple(map(self._counted, self._first))

    def _fold_headless(self) -> None:
        """A trace may begin with the end of something: an equal return whose exit is shown is the same again."""
        whole = {_return(failure): key for key, failure in self._first.items() if failure.exit is not None}
        for key, failure in list(self._first.items()):
            if failure.exit is None and len(failure.trace) == 1 and (same := whole.get(_return(failure))):
                self._count[same] += self._count.pop(key)
                self._last.setdefault(same, self._first[same].source)
                self._last.pop(key, None)
                del self._first[key]

    def _counted(self, key: tuple[object, ...]) -> Failure:
        failure, last = self._first[key], self._last.get(key)
        if last is None:
            return failure
        source = msgspec.structs.replace(
            failure.source, count=self._count[key], last_line=last.line, last_time=last.time
        )
        return msgspec.structs.replace(failure, source=source)

    def __bool__(self) -> bool:
        return bool(self._first)

    @property
    def damage(self) -> tuple[str, ...]:
        if not self.left_out:
            return ()
        return (f"{self.left_out} more failures differ from the first {MOST}, and were not kept",)


def _return(failure: Failure) -> tuple[object, ...]:
    return failure.source.writer, failure.kind, failure.errno, failure.exit_reason
