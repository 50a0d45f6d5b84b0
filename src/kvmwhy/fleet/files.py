"""Where inputs are: files of this machine, and object stores by their URLs, through fsspec."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from datetime import datetime
from importlib import import_module
from typing import Any, BinaryIO, NamedTuple


class Found(NamedTuple):
    """An input: its size in bytes, and when it was written last, in seconds since 1970."""

    path: str
    size: int
    changed: float


def is_remote(path: str) -> bool:
    """Whether it is a URL, as in ``s3://bucket/logs``."""
    return "://" in path


def open_input(path: str) -> BinaryIO:
    """For reading at any place. Raises OSError."""
    if not is_remote(path):
        return open(path, "rb", buffering=0)
    system, inside = _system(path)
    file: BinaryIO = system.open(inside, "rb")
    return file


def remote(url: str) -> Iterator[Found]:
    """Every object at, below, or matching ``url``, by name. Raises OSError."""
    system, inside = _system(url)
    try:
        names = system.glob(inside) if glob.has_magic(inside) else [inside]
        found = {name: info for each in names for name, info in system.find(each, detail=True).items()}
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 -- each store has errors of its own
        raise OSError(f"{type(error).__name__}: {str(error)[:200]}") from None
    if not found:
        raise FileNotFoundError(2, "No such object", url)
    for name, info in sorted(found.items()):
        yield Found(system.unstrip_protocol(name), int(info.get("size") or 0), _changed(info))


def _changed(info: dict[str, Any]) -> float:
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0


def _system(url: str) -> tuple[Any, str]:
    try:
        core: Any = import_module("fsspec.core")
    except ImportError:
        raise OSError("reading it needs fsspec: install kvmwhy[cluster]") from None
    try:
        system, inside = core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # a protocol whose package is missing, or that there is not
        raise OSError(str(error)[:200]) from None
    return system, inside
