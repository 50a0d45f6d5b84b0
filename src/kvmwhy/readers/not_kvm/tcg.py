"""The exceptions that ``qemu -d int`` logs: which was the first of those that ended in a triple fault.

QEMU target/i386/tcg: ``check_exception old: 0x%x new 0x%x`` before each, then ``%6d: v=%02x e=%04x i=%d cpl=%d
IP=%04x:… pc=… SP=… CR2=…`` for each that is delivered, and ``Triple fault`` at the end.
"""

from __future__ import annotations

import re
from typing import Final

_NONE: Final = 0xFFFFFFFF
_STEP: Final = re.compile(
    r"check_exception old: 0x(?P<old>[0-9a-f]{1,8}) new 0x(?P<new>[0-9a-f]{1,4})"
    r"|: v=(?P<vector>[0-9a-f]{2}) e=(?P<error>[0-9a-f]{4}) i=(?P<soft>[01]) cpl=(?P<cpl>[0-3])"
    r" IP=(?P<cs>[0-9a-f]{4}):(?P<ip>[0-9a-f]{8,16}) pc=(?P<pc>[0-9a-f]{8,16})"
    r"(?: SP=[0-9a-f]{4}:[0-9a-f]{8,16})?(?: CR2=(?P<cr2>[0-9a-f]{8,16}))?"
)
_MOST: Final = 200_000


def first_exception(text: str) -> dict[str, int | str]:
    """Vector, error code and place of the exception that began the last chain; ``triple_fault`` if it ended in one."""
    chain: dict[str, int | str] = {}
    fields: dict[str, int | str] = {}
    for n, step in enumerate(_STEP.finditer(text)):
        if n >= _MOST:
            break
        if step["old"] is not None:
            old, new = int(step["old"], 16), int(step["new"], 16)
            if old == _NONE:
                chain = {"vector": new}
            elif old == 8:  # a third exception while a double fault was delivered
                fields = {**chain, "triple_fault": 1}
        elif step["soft"] != "1":
            vector = int(step["vector"], 16)
            if chain.get("vector") == vector and "pc" not in chain:
                chain |= {"error_code": int(step["error"], 16), "pc": int(step["pc"], 16), "cpl": int(step["cpl"])}
                if vector == 14 and step["cr2"]:
                    chain["cr2"] = int(step["cr2"], 16)
            elif not chain:
                chain = {"vector": vector, "error_code": int(step["error"], 16), "pc": int(step["pc"], 16)}
    return fields or chain
