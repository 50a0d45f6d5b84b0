"""Which readers a text is given to."""

from __future__ import annotations

from kvmwhy.readers.registry import readers_of


def asked(text: str, module: str) -> bool:
    """Whether the reader in this module of ``readers`` is."""
    return any(reader.module == module for reader in readers_of(text))
