"""The file that ``kvmwhy exec --record`` keeps: what in it is to be read.

Its failures are whole: the pages, the log and the trace of each are put together in them already. What they were made
from is there for people, and is read only if there are no failures.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from kvmwhy.ingest.archives import Member

ROOT: Final = "kvmwhy-exec"
MANIFEST: Final = "manifest.json"
FAILURES: Final = "failures.jsonl"


def worth_reading(members: Iterator[Member]) -> Iterator[Member]:
    """The members of an archive, without the sources of what was put together already."""
    whole: str | None = None  # what the names in a record begin with, if it has failures
    for member in members:
        directory, _, name = member.path.rpartition(f"{ROOT}/")
        if name == MANIFEST and _is_root(member.path, directory):
            _skip(member)
        elif name == FAILURES and _is_root(member.path, directory):
            first = next(member.chunks, b"")
            if first.strip():
                whole = directory
                yield Member(member.path, chain((first,), member.chunks))
        elif whole is not None and member.path.startswith(f"{whole}{ROOT}/"):
            _skip(member)
        else:
            whole = None
            yield member


def _is_root(path: str, directory: str) -> bool:
    return path.startswith(f"{directory}{ROOT}/")


def _skip(member: Member) -> None:
    for _ in member.chunks:
        pass
