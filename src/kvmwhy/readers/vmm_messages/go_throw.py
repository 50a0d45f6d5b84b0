"""gVisor's bluepill handler died: Go's stack trace of old releases shows the message only by its length.

``runtime.throw(0xb2537f, 0x8)`` above ``kvm.bluepillHandler``: pkg/sentry/platform/kvm/bluepill_unsafe.go of 2018
throws one of a few words, each of another length. Newer ones say ``fatal error: shutdown``.
"""

from __future__ import annotations

import re
from typing import Any, Final

_THROW: Final = re.compile(r"\bruntime\.throw\(0x[0-9a-f]{1,16}, 0x(?P<length>[0-9a-f]{1,4})(?:, [^)\n]{0,80})?\)")
_FATAL: Final = re.compile(r"^fatal error: (?P<word>[a-zA-Z/ _]{2,20})$", re.MULTILINE)
_BEFORE: Final = 400
_FAR: Final = 4000
# The words that the handler throws after an exit, and KVM_EXIT_* of each.
_WORDS: Final = {
    "exception": 1,
    "I/O": 2,
    "hypercall": 3,
    "debug": 4,
    "exit_mmio": 6,
    "shutdown": 8,
    "entry failed": 9,
    "fail_entry": 9,
    "internal error": 17,
}
_BY_LENGTH: Final = {3: 2, 5: 4, 8: 8, 12: 9, 14: 17}  # 9: exception or hypercall


def thrown_at(text: str, begin: int, stop: int) -> dict[str, Any] | None:
    """The exit behind a stack trace's line of the handler, text[begin:stop]."""
    if "kvm.bluepillHandler(" not in text[begin:stop]:
        return None
    for word in _FATAL.finditer(text, max(0, begin - _FAR), begin):
        if word["word"] in _WORDS:
            return {"exit_reason": _WORDS[word["word"]]}
    throws = list(_THROW.finditer(text, max(0, begin - _BEFORE), begin))
    reason = _BY_LENGTH.get(int(throws[-1]["length"], 16)) if throws else None
    return None if reason is None else {"exit_reason": reason}
