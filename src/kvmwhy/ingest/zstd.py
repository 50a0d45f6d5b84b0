"""zstd, which Python has itself from 3.14 on, and ``backports.zstd`` brings to older ones, in the same words."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

MODULES: Final = ("compression.zstd", "backports.zstd")


def zstd() -> Any:
    """The module. Raises ImportError where there is neither, as in an installation without its dependencies."""
    for name in MODULES:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise ImportError("this Python cannot read zstd")
