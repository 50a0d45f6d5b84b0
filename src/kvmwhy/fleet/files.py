"""Where inputs are: files of this machine, and object stores by their URLs, through fsspec."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import Any, BinaryIO, Final, NamedTuple, cast

# Read ahead by so much: a request has its price, and a piece's header is read from elsewhere than its lines.
# s3fs would take 50 MiB, and hold two of them.
_BLOCK: Final = 8 << 20
_LONGEST: Final = 200  # characters of what a store says


class Found(NamedTuple):
    """An input: its size in bytes, and when it was written last, in seconds since 1970."""

    path: str
    size: int
    changed: float


def is_remote(path: str) -> bool:
    """Whether it is a URL, as in ``s3://bucket/logs``."""
    return "://" in path


def open_input(path: str) -> BinaryIO:
    """For reading at any place. Raises OSError, as do all that is done with it."""
    if not is_remote(path):
        return open(path, "rb", buffering=0)
    system, inside = _system(path)
    with _only_os_errors():
        return cast("BinaryIO", _Object(system.open(inside, "rb", block_size=_BLOCK)))


def remote(url: str) -> Iterator[Found]:
    """Every object at, below, or matching ``url``, by name. Raises OSError."""
    system, inside = _system(url)
    with _only_os_errors():
        listing = _listed(system, inside)
    if not listing:
        raise FileNotFoundError(2, "No such object", url)
    for name, info in sorted(listing.items()):
        yield Found(system.unstrip_protocol(name), int(info.get("size") or 0), _changed(info))


def _listed(system: Any, inside: str) -> dict[str, dict[str, Any]]:
    """A name that is there is no pattern, whatever characters it has."""
    if not glob.has_magic(inside) or system.exists(inside):
        return dict(system.find(inside, detail=True))
    listing: dict[str, dict[str, Any]] = {}
    for name, info in system.glob(inside, detail=True).items():
        listing.update(system.find(name, detail=True) if info.get("type") == "directory" else {name: info})
    return listing


class _Object(io.RawIOBase):
    """An object, as a file."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def read(self, size: int = -1) -> bytes:
        with _only_os_errors():
            return bytes(self.inner.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        with _only_os_errors():
            return int(self.inner.seek(offset, whence))

    def close(self) -> None:
        if not self.closed:
            self.inner.close()
        super().close()


@contextmanager
def _only_os_errors() -> Iterator[None]:
    """Each store has errors of its own; all come out as OSError, in one line."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 -- they have nothing in common
        words = " ".join(str(error).split())[:_LONGEST]
        raise OSError(words or type(error).__name__) from None


def _changed(info: dict[str, Any]) -> float:
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0


def _system(url: str) -> tuple[Any, str]:
    """The store of a URL, and the name in it, as it is: fsspec itself would read ``::`` in a name as another URL."""
    try:
        fsspec: Any = import_module("fsspec")
    except ImportError:
        raise OSError("reading it needs fsspec: install kvmwhy[cluster]") from None
    protocol = url.partition("://")[0]
    try:
        store = fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:  # a protocol whose package is missing, or that there is not
        raise OSError(str(error)[:_LONGEST]) from None
    with _only_os_errors():
        return store(**store._get_kwargs_from_urls(url)), store._strip_protocol(url)  # noqa: SLF001 -- as fsspec.core does
