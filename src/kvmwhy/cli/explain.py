"""``kvmwhy explain``: open, read, group, diagnose, print."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

from kvmwhy.cli.output import complain, show
from kvmwhy.diagnosis import diagnose
from kvmwhy.evidence import read
from kvmwhy.evidence.windows import windows
from kvmwhy.record import Failure, Source
from kvmwhy.render.json import to_json
from kvmwhy.render.page import Line
from kvmwhy.render.text import explanation
from kvmwhy.x86.instruction import Syntax

DONE: Final = 0
NOTHING: Final = 1
BAD_INPUT: Final = 2
NOT_PERMITTED: Final = 3
DAMAGED: Final = 4

_CHUNK: Final = 1 << 20
_WORTH_A_BAR: Final = 256 << 20


class _Found:
    """Distinct failures in the order of their first appearance, each with its count."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.first: dict[bytes, Failure] = {}
        self.count: dict[bytes, int] = {}
        self.left_out = 0
        self.bytes_seen = 0

    def add(self, failure: Failure) -> None:
        key = msgspec.msgpack.encode(msgspec.structs.replace(failure, source=Source()))
        if key in self.count:
            self.count[key] += 1
        elif len(self.count) >= self.limit:
            self.left_out += 1
        else:
            self.first[key] = failure
            self.count[key] = 1

    def __iter__(self) -> Iterator[Failure]:
        for key, failure in self.first.items():
            source = msgspec.structs.replace(failure.source, count=self.count[key])
            yield msgspec.structs.replace(failure, source=source)


def run(files: tuple[str, ...], *, as_json: bool, syntax: Syntax, limit: int) -> int:
    """Explain every failure in ``files``; return the exit status."""
    found = _Found(limit)
    status = DONE
    for path in files:
        status = max(status, _read_file(path, found))
    damaged = False
    for n, failure in enumerate(found):
        damaged = damaged or bool(failure.damage)
        diagnosis = diagnose(failure, syntax=syntax)
        if as_json:
            sys.stdout.buffer.write(to_json(diagnosis) + b"\n")
        else:
            lines = explanation(diagnosis)
            show([Line(), Line("─" * 60, "dim"), Line(), *lines] if n else lines)
    sys.stdout.flush()
    if found.left_out:
        complain(f"{found.left_out} more failures differ from these and are not shown; see --limit")
    if status:
        return status
    if not found.first:
        complain(_nothing(files, found.bytes_seen))
        return NOTHING
    return DAMAGED if damaged else DONE


def _nothing(files: tuple[str, ...], seen: int) -> str:
    where = "the input" if files == ("-",) else files[0] if len(files) == 1 else "any of these files"
    if not seen:
        return f"{where} is empty"
    return f"no KVM failure found in {where}; kvmwhy reads QEMU logs, kvm_run pages and data[i] dumps"


def _read_file(path: str, found: _Found) -> int:
    """Read one input; complain in one sentence if it cannot be read. What was read before stays."""
    try:
        if path == "-":
            _read_stream(sys.stdin.buffer, None, 0, found)
            return DONE
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            complain(f"{path} is a directory; name the files in it")
            return BAD_INPUT
        with open(path, "rb") as stream:
            _read_stream(stream, path, info.st_size, found)
    except PermissionError:
        complain(f"{path}: not permitted to read it")
        return NOT_PERMITTED
    except OSError as error:
        complain(f"{path}: {(error.strerror or str(error)).lower()}")
        return BAD_INPUT
    return DONE


def _read_stream(stream: BinaryIO, path: str | None, size: int, found: _Found) -> None:
    for window in windows(_counted(_chunks(stream, size), found)):
        for failure in read(window.data, path=path, first_line=window.first_line).failures:
            found.add(failure)


def _counted(chunks: Iterator[bytes], found: _Found) -> Iterator[bytes]:
    for chunk in chunks:
        found.bytes_seen += len(chunk)
        yield chunk


def _chunks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    if size < _WORTH_A_BAR or not sys.stderr.isatty():
        while chunk := stream.read(_CHUNK):
            yield chunk
        return
    from rich.console import Console
    from rich.progress import wrap_file

    with wrap_file(stream, size, description="reading", console=Console(stderr=True), transient=True) as wrapped:
        while chunk := wrapped.read(_CHUNK):
            yield chunk
