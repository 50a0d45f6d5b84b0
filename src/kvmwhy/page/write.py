"""The page on disk: a folder, an archive of it, or one file."""

from __future__ import annotations

import os
import zipfile
from typing import BinaryIO, Final

from kvmwhy.page.document import PART_NAME, PARTS, files, folder, single
from kvmwhy.page.parts import parts
from kvmwhy.whole_file import replacing, write_whole

_TIME: Final = (2020, 1, 1, 0, 0, 0)


def write(path: str, packages: str | None = None) -> int:
    """Write a folder, or by the name's ending an archive or one file; return its size. Raises OSError, PackageError."""
    page_parts = parts(packages)
    if path.endswith((".html", ".htm")):
        return write_whole(path, [single(page_parts).encode()])
    beside = files(page_parts)
    contents = [*beside, ("index.html", folder(page_parts).encode())]  # last: it never names what is not there
    if path.endswith(".zip"):
        with replacing(path) as out:
            _archive(out, contents)
            return out.tell()
    for name, data in contents:
        target = os.path.join(path, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        write_whole(target, [data])
    _remove_others(os.path.join(path, PARTS), {os.path.basename(file.path) for file in beside})
    return sum(len(data) for _, data in contents)


def _remove_others(folder_of_parts: str, named: set[str]) -> None:
    """Parts of an older page, by the form of their names; whatever else lies there stays."""
    for name in os.listdir(folder_of_parts):
        if name not in named and PART_NAME.fullmatch(name):
            os.unlink(os.path.join(folder_of_parts, name))


def _archive(out: BinaryIO, contents: list[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in contents:
            entry = zipfile.ZipInfo(f"kvmwhy/{name}", _TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
