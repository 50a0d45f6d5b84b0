"""An initramfs in the kernel's "newc" format, from files in memory and a directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class _Entry(NamedTuple):
    name: str
    mode: int
    data: bytes


def pack(files: Mapping[str, bytes], root: Path | None = None) -> bytes:
    """The archive: ``files`` by name, all executable, over what the directory ``root`` has. Everything is root's."""
    below = {entry.name: entry for entry in _of_directory(root)} if root else {}
    above = {name: _Entry(name, stat.S_IFREG | 0o755, data) for name, data in files.items()}
    entries = below | above
    parents = {str(parent) for name in entries for parent in Path(name).parents} - entries.keys() - {"."}
    directories = [_Entry(name, stat.S_IFDIR | 0o755, b"") for name in sorted(parents)]
    ordered = [*sorted([*directories, *entries.values()], key=_order), _Entry("TRAILER!!!", 0, b"")]
    return b"".join(_member(number, entry) for number, entry in enumerate(ordered, start=1))


def _order(entry: _Entry) -> tuple[int, str]:
    """The kernel creates no directory by itself, and a path may lead through a link: directories, links, files."""
    rank = 0 if stat.S_ISDIR(entry.mode) else 1 if stat.S_ISLNK(entry.mode) else 2
    return rank, entry.name


def _of_directory(root: Path) -> Iterator[_Entry]:
    for path, directories, names in os.walk(root):
        for name in (*directories, *names):
            file = Path(path, name)
            status = file.lstat()
            relative = str(file.relative_to(root))
            if stat.S_ISLNK(status.st_mode):
                yield _Entry(relative, status.st_mode, os.fsencode(os.readlink(file)))
            elif stat.S_ISDIR(status.st_mode):
                yield _Entry(relative, status.st_mode, b"")
            elif stat.S_ISREG(status.st_mode):
                yield _Entry(relative, status.st_mode, file.read_bytes())


def _member(number: int, entry: _Entry) -> bytes:
    name = os.fsencode(entry.name) + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name
    return head + bytes(-len(head) % 4) + entry.data + bytes(-len(entry.data) % 4)
