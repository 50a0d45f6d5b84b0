"""A VMM's format string as a pattern, and as an example of what it prints.

``{name}`` is a number in either base, ``{name:x}`` bare hexadecimal digits, ``{name:d}`` decimal ones; ``{exit}`` is an
exit's name, ``{errno}`` strerror's words, ``{*}`` anything short. A run of spaces stands for one to four spaces.
"""

from __future__ import annotations

import re
from typing import Final

NUMBER: Final = r"(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})(?![0-9a-zA-Z_])"
EXIT_NAME: Final = r"(?:KVM_EXIT_|EXIT_?)?[A-Za-z][A-Za-z0-9_]{1,30}(?![A-Za-z0-9_])"
_UNNAMED: Final = frozenset({"*", "line"})
_PLACE: Final = re.compile(r"\{(\*|[a-z_]+)(?::([a-z]))?\}")
_SPECS: Final = {
    None: NUMBER,
    "x": r"[0-9a-fA-F]{1,16}(?![0-9a-zA-Z_])",
    "d": r"-?[0-9]{1,20}(?![0-9a-zA-Z_])",
}
# Rust's {:?} of a VcpuExit: a name, and what it carries.
_DEBUG: Final = r"[A-Za-z][A-Za-z0-9_:]{1,40}(?: ?(?:\([^\n]{0,200}?\)|\{[^\n]{0,300}?\}))?"
_PATTERNS: Final = {
    "*": r"[^\n]{0,200}?",
    "line": r"[0-9]{1,6}",
    "exit": EXIT_NAME,
    "debug": _DEBUG,
    "errno": r"[^\n]{1,160}",
    "data_bytes": r"[0-9a-f]{0,512}",
    "instruction": r"(?:[0-9a-f]{2}(?:, ?)?){1,15}",
}
_WORDS: Final = {
    "*": "",
    "exit": "SHUTDOWN",
    "debug": "InternalError",
    "errno": "Bad address",
    "data_bytes": "01" * 24,
    "instruction": "c5, fe, 6f, 03",
}
# What an example shows: values that a real failure could have.
EXAMPLE: Final[dict[str, int]] = {
    "hardware_error": 0x80000021,
    "suberror": 1,
    "reason": 17,
    "hardware_reason": 49,
    "ndata": 3,
    "vcpu": 1,
    "host_cpu": 3,
    "rip": 0x100020,
    "exception": 13,
    "error_code": 0,
    "number": 14,
    "flags": 8,
    "gpa": 0x1000,
    "size": 0x1000,
    "event": 3,
    "word": 0x300000001,
    "length": 8,
    "line": 624,
    "wanted": 2,
    "second": 49,
}


def compile_template(template: str) -> re.Pattern[str]:
    """The pattern that reads what a format string prints."""
    parts: list[str] = []
    at = 0
    for place in _PLACE.finditer(template):
        parts.append(_literal(template[at : place.start()]))
        name, spec = place[1], place[2]
        pattern = _PATTERNS.get(name) or _SPECS[spec]
        parts.append(pattern if name in _UNNAMED else f"(?P<{name}{'_x' if spec == 'x' else ''}>{pattern})")
        at = place.end()
    parts.append(_literal(template[at:]))
    return re.compile("".join(parts))


def _literal(text: str) -> str:
    return re.sub(r"(?:\\ )+", " {1,4}", re.escape(text))


def longest_literal(template: str) -> str:
    """The longest piece between placeholders."""
    return max((piece.strip() for piece in _PLACE.sub("\0", template).split("\0")), key=len)


def example(template: str) -> str:
    """What the format string prints with the values of EXAMPLE."""

    def value(place: re.Match[str]) -> str:
        name, spec = place[1], place[2]
        if name in _WORDS:
            return _WORDS[name]
        number = EXAMPLE[name]
        if spec == "x":
            return f"{number:016x}"
        if spec == "d":
            return str(number)
        return hex(number) if name in {"hardware_error", "suberror", "rip"} else str(number)

    return _PLACE.sub(value, template)
