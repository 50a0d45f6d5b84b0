"""kvm-unit-tests speaks from inside the guest: ``Unhandled exception 6 #UD at ip 0000000000401387``.

lib/x86/desc.c: unhandled_exception; arm64's and powerpc's differ and name no x86 vector.
"""

from __future__ import annotations

import re
from typing import Any, Final

_UNHANDLED: Final = re.compile(
    r"\bUnhandled (?:cpu )?exception (?P<vector>[0-9]{1,2}) #[A-Z?]{2,3}(?:\((?P<code>[0-9a-f]{1,8})\))? at ip"
    r" (?P<ip>[0-9a-f]{8,16})\b"
)
_REFUSED: Final = frozenset({6, 13})  # #UD and #GP: what KVM injects for what it does not offer


def exception_in(line: str) -> dict[str, Any] | None:
    """The exception that a test of kvm-unit-tests did not expect."""
    match = _UNHANDLED.search(line)
    if not match:
        return None
    vector = int(match["vector"])
    facts: dict[str, Any] = {
        "kind": "undef-injected" if vector in _REFUSED else "symptom",
        "exception": vector,
        "rip": int(match["ip"], 16),
    }
    if match["code"]:
        facts["exception_error_code"] = int(match["code"], 16)
    return facts
