"""Regular expressions that are compiled when they are first asked.

A start of the program imports some hundred, and a plain log asks a dozen of them. What is asked of every input is
compiled by ``re`` itself.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast

_ASKED = ("search", "match", "fullmatch", "finditer", "findall", "sub", "split")


class _Deferred:
    """Stands for the pattern until one of its methods is wanted, and then has those of the compiled one."""

    def __init__(self, text: Any, flags: int) -> None:
        self._source = text, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self._source)
        self.__dict__.update((method, getattr(compiled, method)) for method in _ASKED)
        return getattr(compiled, name)


def deferred(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What ``re.compile`` gives, later. A text that is no pattern is found out at its first use."""
    return cast("re.Pattern[AnyStr]", _Deferred(text, flags))
