"""What the atlas adds to a verdict: that this was measured, and on what."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from kvmwhy.emulator.atlas import AtlasError, atlas, in_kernel
from kvmwhy.emulator.opcode_table import Version
from kvmwhy.emulator.result import Outcome
from kvmwhy.emulator.wording import say_answer

# What a measurement must be to bear a verdict out. An exception can be the doing of the values it was measured with.
_BEARS_OUT: Final[dict[Outcome, frozenset[str]]] = {
    "handler": frozenset(("emulated", "no-exit", "endless")),
    "no-handler": frozenset(("fails",)),
    "gives-up": frozenset(("fails",)),
}


def seen(code: bytes, mode: str, version: Version, outcome: Outcome) -> str:
    """One sentence, if an equal form was measured in that series, and came out so; else ""."""
    return _seen(bytes(code), mode, version, outcome)


@lru_cache(maxsize=4096)
def _seen(code: bytes, mode: str, version: Version, outcome: Outcome) -> str:
    wanted = _BEARS_OUT.get(outcome)
    if wanted is None:
        return ""
    try:
        known = atlas()
    except (OSError, AtlasError):  # no atlas, no evidence; the table stands by itself
        return ""
    verdicts = known.verdicts(code, mode)
    if verdicts is None:
        return ""
    answer = in_kernel(known.kernels, verdicts, version)
    if answer.status != "measured" or answer.verdict is None or answer.verdict.kind not in wanted:
        return ""
    return say_answer(answer)
