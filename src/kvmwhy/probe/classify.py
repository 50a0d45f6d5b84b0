"""From what a probe came to, to what it means."""

from __future__ import annotations

import errno
from typing import Final

from kvmwhy.emulator.measured import Measured
from kvmwhy.probe.encodings import Form
from kvmwhy.probe.guest import HANDLER_SIZE, HANDLERS, VECTORS
from kvmwhy.probe.sweep_format import DIFFERS, Raw

_HLT, _SHUTDOWN, _INTERNAL_ERROR = 5, 8, 17
ENDLESS: Final = -1000
_UD: Final = 6
_UNDEFINED_FLAGS: Final = ("aam", "aad")  # OF, AF and CF
_UNDEFINED_FOR_ZERO: Final = ("bsf", "bsr")  # SDM vol. 2A: the destination, if the source is 0


def vector_at(linear: int) -> int | None:
    """The exception in whose handler a guest halted there, or None."""
    number, _ = divmod(linear - HANDLERS, HANDLER_SIZE)
    return number if 0 <= number < VECTORS else None


def judge(form: Form, raw: Raw) -> Measured:
    reason, accesses = raw.reason, raw.accesses
    if reason == _INTERNAL_ERROR:
        return Measured("fails", raw.suberror, raw.ndata, raw.fetched, accesses)
    if reason == ENDLESS:
        return Measured("endless", accesses=accesses)
    if reason == -errno.EINTR:
        return Measured("no-exit", accesses=accesses)
    if reason == -errno.EPERM:
        return Measured("refused")
    if reason < 0:
        return Measured("error", -reason, accesses=accesses)
    if reason == _SHUTDOWN:
        return Measured("shutdown", accesses=accesses)
    if reason != _HLT:
        return Measured("exit", reason, accesses=accesses)
    vector = vector_at(raw.at)
    native = vector_at(raw.native_at) if raw.native_reason == _HLT else None
    if vector is not None and vector != form.vector:
        if native == vector:
            return Measured("exception", vector, accesses=accesses, compared="same")
        if raw.native_reason == _HLT:
            return Measured("exception", vector, accesses=accesses, compared="wrong", wrong=("exception",))
        return Measured("exception", vector, accesses=accesses)
    if raw.native_reason != _HLT or not form.steady or (native == _UD and form.vector != _UD):
        return Measured("emulated", accesses=accesses)  # the CPU does not have it: nothing to compare with
    bits = max(raw.differs, 0)
    if not form.text.startswith(_UNDEFINED_FOR_ZERO):
        bits |= max(raw.differs_other, 0)
    if form.text.startswith(_UNDEFINED_FLAGS):
        bits &= ~(1 << DIFFERS.index("flags"))
    wrong = tuple(name for number, name in enumerate(DIFFERS) if bits >> number & 1)
    return Measured("emulated", accesses=accesses, compared="wrong" if wrong else "same", wrong=wrong)


def prefer(plain: Measured, forced: Measured) -> Measured:
    """Of two verdicts on a form in real mode, the one that says more.

    Forced emulation calls #UD what KVM cannot decode. What the CPU came to by itself may be its own doing: without
    an access or a failure, KVM need not have been asked.
    """
    if plain.kind == "fails" or plain.accesses:
        return plain
    if forced.kind == "exception" and forced.code == _UD and plain.kind not in {"emulated", "exception"}:
        return plain
    return forced
