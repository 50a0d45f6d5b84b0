"""A file that is written whole or not at all: a reader sees the old content or the new, and nothing between.

The content goes into a draft beside the file, which then takes its name. A full disk leaves the old file and no draft;
a kill leaves the old file and a draft, ``.kvmwhy-…``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final

_OPEN: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_OF_PROCESS: Final = ("/proc/", "/dev/fd/")


def write_whole(path: str, content: Iterable[bytes], *, durable: bool = False) -> int:
    """Write it, and return its size. Raises OSError, and what ``content`` does."""
    with replacing(path, durable=durable) as file:
        return sum(map(file.write, content))


@contextmanager
def replacing(path: str, *, durable: bool = False, private: bool = False) -> Iterator[BinaryIO]:
    """The draft: it takes the place of ``path`` when the block ends, or is removed when that raises.

    ``durable``: the content is on the disk before the name is. ``private``: only its owner reads it, and whatever else
    reads at that name gets nothing. What is no file is written to as it is. Raises OSError.
    """
    if not is_replaceable(path):
        if private:
            raise FileExistsError(errno.EEXIST, "it is no file", path)
        with open(path, "wb") as file:
            yield file
        return
    draft = os.path.join(os.path.dirname(path), f".kvmwhy-{os.urandom(8).hex()}")
    try:
        handle = os.open(draft, _OPEN, 0o600 if private else 0o666)
    except OSError as error:
        raise _of(path, error) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(handle)
        try:
            os.replace(draft, path)
        except OSError as error:
            raise _of(path, error) from None
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def is_replaceable(path: str) -> bool:
    """Whether a file may be put there: not in place of a device or pipe, as root could, nor of the link /dev/stdout."""
    try:
        is_open = path.startswith(_OF_PROCESS) or os.readlink(path).startswith(_OF_PROCESS)
    except OSError:  # no link
        is_open = False
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and not is_open
    except OSError:  # nothing is there, or a link to nothing
        return True


def _of(path: str, error: OSError) -> OSError:
    """The same, with the name that the user knows."""
    return OSError(error.errno, error.strerror, path)
