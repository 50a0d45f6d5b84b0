"""Text from evidence, made harmless: no control character of a log reaches a terminal or a page."""

from __future__ import annotations


def safe(text: str, limit: int = 400) -> str:
    """``text`` with every character that does not print shown as an escape, and cut at ``limit``."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if c.isprintable() and not 0xD800 <= ord(c) < 0xE000 else _escape(c) for c in text)
    return text if len(text) <= limit else text[:limit] + "…"


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
