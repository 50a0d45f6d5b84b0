"""The ring buffer's pages (``per_cpu/cpuN/trace_pipe_raw``, and the same inside a ``trace.dat``).

A page has the time of its first event, the count of its bytes, and events whose heads say how long they are and how
long after the last one they came (``include/linux/ring_buffer.h``). Events of other tracepoints are stepped over by
their ID, without a look at their fields.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from kvmwhy.readers.trace.events import TraceEvent
from kvmwhy.readers.trace.formats import Buffer, Format, Formats

_DATA_MAX: Final = 28  # type_len up to here: a length in words
_PADDING: Final = 29
_TIME_EXTEND: Final = 30
_TIME_STAMP: Final = 31
_DELTA_BITS: Final = 27
_ABSOLUTE: Final = (1 << 59) - 1  # a time stamp event has these bits; the page's own time has the rest
_CLOCK: Final = (1 << 64) - 1
_LENGTH: Final = (1 << 20) - 1  # RB_WRITE_MASK; what is above are flags
_MISSED: Final = 1 << 31  # RB_MISSED_EVENTS
_STORED: Final = 1 << 30  # RB_MISSED_STORED: their number stands behind the data

_U64: Final = struct.Struct("<Q")
_U32: Final = struct.Struct("<I").unpack_from


class Lost(NamedTuple):
    """Events that the kernel overwrote before this place; ``events`` is None where it did not say how many."""

    ns: int
    events: int | None


class Head(NamedTuple):
    """What a page says of itself."""

    ns: int  # the trace clock at its first event
    end: int  # offset of the first byte behind its events
    lost: Lost | None
    torn: bool  # it claims more than it has


class Wanted(NamedTuple):
    """What is needed of a tracepoint to make a ``TraceEvent`` without decoding it."""

    name: str
    format: Format
    pid_at: int
    vcpu_at: int | None


class Decoder:
    """Pages to events, or to those of the tracepoints in ``only``.

    ``scale`` makes seconds of the trace clock's units; None where these are no time.

    >>> decoder = Decoder(Formats.parse(text))  # doctest: +SKIP
    >>> for event in decoder.page(page, cpu=3):  # doctest: +SKIP
    ...     failures += story.take(event)

    ``torn`` counts the pages that ended in the middle of something.
    """

    def __init__(self, formats: Formats, *, scale: float | None = 1e-9, only: frozenset[str] | None = None) -> None:
        self.formats = formats
        self.scale = scale
        self.torn = 0
        self._wanted: dict[int, Wanted] = {}
        for form in formats.by_id.values():
            if only is not None and form.name not in only:
                continue
            type_at, type_size = form.offsets["common_type"]
            pid_at, pid_size = form.offsets["common_pid"]
            vcpu_at, vcpu_size = form.offsets.get("vcpu_id", (0, 0))
            if type_at == 0 and type_size == 2 and pid_size == 4:  # as in every kernel
                self._wanted[form.id] = Wanted(form.name, form, pid_at, vcpu_at if vcpu_size == 4 else None)

    def head(self, page: Buffer) -> Head | None:
        """None if there is not even a head."""
        formats = self.formats
        if len(page) < formats.data:
            return None
        (ns,) = _U64.unpack_from(page)
        at, size = formats.commit
        commit = int.from_bytes(page[at : at + size], "little")
        end = formats.data + (commit & _LENGTH)
        torn = end > len(page)
        end = min(end, len(page))
        lost = None
        if commit & _MISSED:
            count = None
            if commit & _STORED and end + 8 <= len(page):
                (count,) = _U64.unpack_from(page, end)
            lost = Lost(ns, count)
        return Head(ns, end, lost, torn)

    def page(self, page: Buffer, *, cpu: int | None = None) -> Iterator[TraceEvent]:
        """The events of one page, in order. Ends where the page is torn."""
        for _, event in self.timed(page, cpu=cpu):
            yield event

    def timed(self, page: Buffer, *, cpu: int | None = None) -> Iterator[tuple[int, TraceEvent]]:
        """Each event with the trace clock, in its own units, for merging with other CPUs'."""
        head = self.head(page)
        if head is None:
            self.torn += bool(len(page))
            return
        self.torn += head.torn
        view = memoryview(page)
        words = _words(view[: head.end])
        wanted, scale = self._wanted.get, self.scale
        ns, at, end = head.ns, self.formats.data // 4, len(words)
        whole = True
        while at < end:
            first = words[at]
            kind = first & 31
            delta = first >> 5
            at += 1
            if 0 < kind <= _DATA_MAX:
                behind = at + kind
            elif kind == _PADDING and not delta:  # nothing more in this page
                at = end
                break
            elif at >= end:
                whole = False
                break
            elif kind == 0:  # too long for five bits: the length, in bytes and with its own four, comes first
                behind = at + max(1, words[at] + 3 >> 2)
                at += 1
            elif kind == _PADDING:  # an event that was filtered out after it had been written
                ns += delta
                at += max(1, words[at] + 3 >> 2)
                continue
            else:
                longer = (words[at] << _DELTA_BITS) + delta
                ns = ns + longer & _CLOCK if kind == _TIME_EXTEND else _absolute(longer, ns)
                at += 1
                continue
            ns += delta
            if behind > end:
                whole = False
                break
            form = wanted(words[at] & 0xFFFF) if at < behind else None
            if form is not None:
                yield ns, _event(form, view[4 * at : 4 * behind], ns, scale, cpu)
            at = behind
        if not head.torn and (at != end or not whole):
            self.torn += 1


def _words(view: memoryview) -> memoryview | tuple[int, ...]:
    whole = view[: len(view) & ~3]
    if sys.byteorder == "little" and whole.contiguous:
        return whole.cast("B").cast("I")
    return struct.unpack(f"<{len(whole) // 4}I", whole)


def _event(one: Wanted, payload: memoryview, ns: int, scale: float | None, cpu: int | None) -> TraceEvent:
    size = len(payload)
    pid = _U32(payload, one.pid_at)[0] if one.pid_at + 4 <= size else 0
    vcpu = None
    if one.vcpu_at is not None and one.vcpu_at + 4 <= size:
        vcpu = _U32(payload, one.vcpu_at)[0]
    return TraceEvent(one.name, pid, payload, one.format, vcpu, cpu, None if scale is None else ns * scale)


def _absolute(stamp: int, ns: int) -> int:
    """The page's time has the bits that a stamp has no room for."""
    full = ns & ~_ABSOLUTE | stamp & _ABSOLUTE
    return full + _ABSOLUTE + 1 if full < ns and ns - full > _ABSOLUTE // 2 else full
