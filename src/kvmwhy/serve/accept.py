"""Which of two kinds of answer a client asks for, by its header Accept."""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 1000
_QUALITY: Final = re.compile(r"[01](?:\.[0-9]{0,3})?")  # RFC 9110, 12.4.2


def prefers_page(accept: str) -> bool:
    """A browser asks for HTML before all else; whoever asks for anything gets JSON."""
    wanted: dict[str, float] = {}
    for entry in accept[:_LONGEST].split(","):
        kind, *parameters = (word.strip().lower() for word in entry.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        wanted[kind] = float(quality) if _QUALITY.fullmatch(quality) else 0.0
    return wanted.get("text/html", 0.0) > wanted.get("application/json", 0.0)
