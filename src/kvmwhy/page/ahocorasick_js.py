"""``ahocorasick_rs`` where there is no wheel of it: the same search in JavaScript (``assets/search.js``).

It has what ``kvmwhy.ingest.multi_search`` uses. In the page it is installed as ``ahocorasick_rs``, so that the choice
of a search finds it there.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import js  # Pyodide's
from pyodide.ffi import to_js


class Implementation(Enum):
    """Here there is but one."""

    DFA = 1
    NoncontiguousNFA = 2
    ContiguousNFA = 3


class BytesAhoCorasick:
    """Texts to be looked for."""

    def __init__(self, texts: list[bytes], *, implementation: Implementation | None = None) -> None:
        del implementation
        self._search: Any = js.Search.new(to_js(texts))

    def find_matches_as_indexes(self, data: bytes | bytearray, *, overlapping: bool) -> list[tuple[int, int, int]]:
        """Number, start and end of every occurrence, in the order of their ends, the longer first."""
        assert overlapping  # noqa: S101 -- nothing else is asked for
        numbers = self._search.find(to_js(data)).to_py().tolist()
        return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
