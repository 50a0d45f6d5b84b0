"""``kvmwhy triage --pages``: beside the triage's page, one of a failure of each group, as of ``explain --html``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from kvmwhy.cli.html_page import write_page
from kvmwhy.diagnosis import diagnose
from kvmwhy.fleet.signature import VERSIONS, sign
from kvmwhy.fleet.triage import Group, Triage
from kvmwhy.pipeline import inputs, records_of
from kvmwhy.render.fleet_words import file_of
from kvmwhy.render.html.document import Told, page
from kvmwhy.report import excerpt_of

_CHUNK: Final = 1 << 20
_MOST_READ: Final = 20_000  # failures of one file that are looked at


def write_pages(found: Triage, beside: str) -> tuple[dict[int, str], list[str]]:
    """The address of each group's page, relative to ``beside``, and what could not be made. Raises OSError."""
    stem, _ = os.path.splitext(beside)
    pages: dict[int, str] = {}
    remarks: list[str] = []
    for number, group in enumerate(found.groups, 1):
        explained = _one_of(group, remarks)
        if explained is None:
            continue
        path = f"{stem}-{number}.html"
        write_page(path, page([explained], made=datetime.now(UTC)))
        pages[number] = os.path.basename(path)
    return pages, remarks


def _one_of(group: Group, remarks: list[str]) -> Told | None:
    """The first failure of the group in its example's file, which may be gone since the scan."""
    path = file_of(group.example)
    if path is None:
        remarks.append(f"{group.example}: no file of this machine; its group has no page")
        return None
    try:
        with open(path, "rb") as stream:
            return _found(group, iter(lambda: stream.read(_CHUNK), b""), path, remarks)
    except OSError as error:
        remarks.append(f"{path}: {(error.strerror or str(error)).lower()}; its group has no page")
        return None


def _found(group: Group, chunks: Iterator[bytes], path: str, remarks: list[str]) -> Told | None:
    head = group.signature.partition(" ")[0].removeprefix("v")
    version = int(head) if head.isdecimal() and int(head) in VERSIONS else None
    looked = 0
    for member in inputs(chunks, path):
        for record in records_of(member.chunks, member.path):
            looked += 1
            diagnosis = diagnose(record.failure)
            if version is not None and sign(diagnosis, version).key == group.signature:
                return Told(diagnosis, (), excerpt_of(record.window, record.failure))
            if looked >= _MOST_READ:
                break
    remarks.append(f"{path}: no failure of this group is in it any more; the group has no page")
    return None
