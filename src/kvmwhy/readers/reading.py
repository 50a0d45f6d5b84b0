"""A text given to every reader that has an anchor in it, writer by writer, and the results put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec.structs import replace

from kvmwhy.ingest.demux import Stream, streams
from kvmwhy.readers import Evidence
from kvmwhy.readers.correlate import combine, told_by
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.host_trouble import beside, settle
from kvmwhy.readers.precedence import standing
from kvmwhy.readers.registry import readers_of
from kvmwhy.record import Failure, Host, HostEvent, Source

_MOST_DAMAGE: Final = 64
_OF_THE_HOST: Final = frozenset({"memory-poisoned"})  # holds wherever in the VMM's log it stands
_OF_ONE_VM: Final = frozenset({"qemu", "ram_bytes"})


def read_text(data: bytes, *, path: str | None, first_line: int) -> Evidence:
    """Every failure of a text in the order of its lines, those of one failure in one record."""
    parts = streams(data)
    read_streams: list[tuple[str, Stream, list[Evidence]]] = []
    names: dict[str, None] = {}
    logs: list[Stream] = []  # with lines of the host's kernel
    told_by_vmm: list[HostEvent] = []
    for stream in parts:
        pieces: list[Evidence] = []
        for kind in readers_of(stream.text.text):
            if kind.last and any(piece.failures for piece in pieces):
                continue
            is_log = kind.module == "kernel_log"
            if is_log:
                logs.append(stream)
            stamps: dict[str, Any] = {"times": stream.times, "writer": stream.writer} if is_log else {}
            evidence: Evidence = kind.load().read(stream.text, path=path, first_line=1, **stamps)
            if kind.module == "host_memory":
                told_by_vmm += [_event(e, stream, first_line) for f in evidence.failures for e in f.host.events]
            if evidence.failures or evidence.damage:
                names[evidence.format or kind.name] = None
                known = _with_arch(evidence.failures, stream.text.text)
                placed = tuple(_placed(failure, stream, first_line) for failure in known)
                pieces.append(evidence._replace(failures=placed))
        if pieces:
            read_streams.append((stream.host, stream, pieces))
    if not read_streams:
        return Evidence()
    _, _, (only, *more) = read_streams[0]
    if len(parts) == 1 and not more:  # as nearly always: there is nothing to put together
        remarks_of_one = tuple(dict.fromkeys(only.damage))[:_MOST_DAMAGE]
        failures = _with_events(list(only.failures), logs, told_by_vmm, first_line)
        return Evidence(standing(settle(failures)), remarks_of_one, " + ".join(names) or None)
    by_host: dict[str, list[Evidence]] = {}
    for host, _, pieces in read_streams:
        by_host.setdefault(host, []).extend(pieces)
    remarks = _Remarks(parts)
    failures = []
    for host, pieces in by_host.items():
        alone = sum(other == host and any(p.failures for p in ps) for other, _, ps in read_streams) == 1
        about = remarks.of(host)
        failures += [_with_host(f, about, alone=alone) for f in _of_one_arch(combine(pieces))]
    if len(by_host) > 1 or len(read_streams) > 1:
        failures.sort(key=lambda f: f.source.line or 0)
    damage = dict.fromkeys(remark for _, _, pieces in read_streams for piece in pieces for remark in piece.damage)
    failures = _with_events(failures, logs, told_by_vmm, first_line)
    return Evidence(standing(settle(failures)), tuple(damage)[:_MOST_DAMAGE], " + ".join(names) or None)


def _with_arch(failures: tuple[Failure, ...], text: str) -> Iterable[Failure]:
    if all(failure.arch for failure in failures):
        return failures
    from kvmwhy.readers.arch_clues import with_arch

    return with_arch(failures, text)


def _of_one_arch(failures: Sequence[Failure]) -> Iterable[Failure]:
    """A host has one architecture: what one writer's lines tell of it holds for those of the others."""
    known = {failure.arch: failure.arch_from for failure in failures if failure.arch is not None}
    if len(known) != 1 or all(failure.arch for failure in failures):
        return failures
    ((arch, arch_from),) = known.items()
    return [failure if failure.arch else replace(failure, arch=arch, arch_from=arch_from) for failure in failures]


def _placed(failure: Failure, stream: Stream, first_line: int) -> Failure:
    """The failure with the line of the input, its time, and who wrote it."""
    source = failure.source
    number = (source.line or 1) - 1
    writer = " on ".join(name for name in (stream.writer, stream.host) if name) or None
    last_line = None if source.last_line is None else first_line + stream.line(source.last_line - 1)
    placed: Source = replace(
        source,
        line=first_line + stream.line(number),
        last_line=last_line,
        time=source.time or stream.time(number),
        writer=writer,
    )
    host = failure.host
    if host.events:
        host = replace(host, events=tuple(_event(event, stream, first_line) for event in host.events))
    seen_at = {name: first_line + stream.line(line - 1) for name, line in failure.seen_at.items()}
    return replace(failure, source=placed, seen_at=seen_at, host=host)


def _event(event: HostEvent, stream: Stream, first_line: int) -> HostEvent:
    """The event with the line of the input."""
    if event.at.line is None:
        return event
    placed: HostEvent = replace(event, at=replace(event.at, line=first_line + stream.line(event.at.line - 1)))
    return placed


def _with_events(
    failures: list[Failure], logs: list[Stream], told_by_vmm: list[HostEvent], first_line: int
) -> list[Failure]:
    """What the host's kernel logged beside the failures of other readers, and what the VMM told of the host."""
    if told_by_vmm:
        failures = [beside(failure, told_by_vmm, _OF_THE_HOST) for failure in failures]
    if not logs or not failures:
        return failures
    from kvmwhy.readers.kernel_log.nearby import LASTING, told
    from kvmwhy.readers.kernel_log.printk import Origin

    events = [
        _event(event, stream, first_line)
        for stream in logs
        for event in told(stream.text.text, Origin(stream.times, stream.writer))
    ]
    return [beside(failure, events, LASTING) for failure in failures]


class _Remarks:
    """What the whole text says of each host, read when it is wanted."""

    def __init__(self, parts: list[Stream]) -> None:
        self.parts = parts
        self.known: dict[str, Host | None] = {}

    def of(self, host: str) -> Host | None:
        """``None``: there is one writer, and its reader has seen everything."""
        if len(self.parts) == 1:
            return None
        if host not in self.known:
            texts = (part.text.text for part in self.parts if part.host in {host, ""})
            self.known[host] = host_of("\n".join(texts))
        return self.known[host]


def _with_host(failure: Failure, about: Host | None, *, alone: bool) -> Failure:
    """Kernel and vendor hold for every VM of a host; RAM and the VMM's version only for the one they are of."""
    if about is None:
        return failure
    without = frozenset() if alone else _OF_ONE_VM
    return replace(failure, host=told_by(failure.host, about, without=without | {"unrestricted_guest_hint"}))
