"""The kernel's side: make the ``kvm_run`` page that KVM leaves behind for a failure.

Each function does what one producer in the kernel does, word for word, including what it does not
clear: pass ``stale`` to see a reader cope with the remains of an earlier exit.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

from kvmwhy.abi.internal_error import (
    FLAG_INSTRUCTION_BYTES,
    INSN_BYTES,
    MAX_DEBUG,
    EmulationFailure,
    LayoutError,
    encode_emulation,
    instruction_words,
)
from kvmwhy.abi.kvm_run import (
    EXIT_EXCEPTION,
    EXIT_FAIL_ENTRY,
    EXIT_INTERNAL_ERROR,
    EXIT_SHUTDOWN,
    EXIT_UNKNOWN,
    encode_page,
)


class ExitInfo(NamedTuple):
    """What the vendor module's get_exit_info reports: a u32, two u64, two u32."""

    reason: int
    info1: int = 0
    info2: int = 0
    intr_info: int = 0
    error_code: int = 0


class KernelWarning(UserWarning):
    """Where the kernel itself would print a WARN splat."""


def emulation_failure_words(
    exit_info: ExitInfo, *, insn: bytes = b"", debug: tuple[int, ...] = (), strict: bool = False
) -> tuple[int, ...]:
    """``prepare_emulation_failure_exit`` of 5.16 … 7.3, as the words it stores.

    ``debug`` takes up to four words that are not ABI; the kernel warns about a fifth and drops it.
    With ``strict`` a fifth raises LayoutError instead. ``insn`` is the emulator's fetch window.
    """
    if len(debug) > MAX_DEBUG:
        if strict:
            raise LayoutError(f"at most {MAX_DEBUG} debug words fit, here are {len(debug)}")
        warnings.warn(f"{len(debug)} debug words: the kernel keeps {MAX_DEBUG}", KernelWarning, stacklevel=2)
        debug = debug[:MAX_DEBUG]
    if len(insn) > INSN_BYTES:
        raise LayoutError(f"the fetch window has {INSN_BYTES} bytes, here are {len(insn)}")
    # The kernel copies five u64, so that each field has an entry of its own (e615e355894e).
    if any(not 0 <= word < 1 << bits for word, bits in zip(exit_info, (32, 64, 64, 32, 32), strict=True)):
        raise LayoutError("reason, intr_info and error_code are 32 bits wide, info1 and info2 are 64")
    if any(not 0 <= word < 1 << 64 for word in debug):
        raise LayoutError("a debug word is 64 bits wide")
    flags, words = 0, list[int]()
    if insn:
        flags |= FLAG_INSTRUCTION_BYTES
        words += instruction_words(insn)
    words += exit_info
    words += debug
    return (flags, *words)


def emulation_failure(
    exit_info: ExitInfo,
    *,
    insn: bytes = b"",
    debug: tuple[int, ...] = (),
    strict: bool = False,
    stale: bytes = b"",
) -> bytes:
    """A whole page for suberror 1, as every kernel since 5.16 leaves it."""
    words = emulation_failure_words(exit_info, insn=insn, debug=debug, strict=strict)
    return internal_error(1, words, stale=stale)


def emulation_failure_in(failure: EmulationFailure, *, stale: bytes = b"") -> bytes:
    """A whole page for suberror 1 in any layout that was merged or proposed."""
    return internal_error(1, encode_emulation(failure), stale=stale)


def internal_error(suberror: int, words: tuple[int, ...], *, stale: bytes = b"") -> bytes:
    """KVM_EXIT_INTERNAL_ERROR with these words; ndata counts them. Raises ValueError above 16."""
    payload: dict[str, int | bytes | tuple[int, ...]] = {"suberror": suberror, "ndata": len(words)}
    if words:
        payload["data"] = words
    return encode_page(EXIT_INTERNAL_ERROR, payload, stale=stale)


def fail_entry(reason: int, *, cpu: int = 0) -> bytes:
    """KVM_EXIT_FAIL_ENTRY: the hardware refused the guest's state."""
    return encode_page(EXIT_FAIL_ENTRY, {"hardware_entry_failure_reason": reason, "cpu": cpu})


def unknown_exit(reason: int) -> bytes:
    """KVM_EXIT_UNKNOWN: an exit that no handler took."""
    return encode_page(EXIT_UNKNOWN, {"hardware_exit_reason": reason})


def exception_exit(vector: int, error_code: int = 0) -> bytes:
    """KVM_EXIT_EXCEPTION: an intercepted exception that no handler took."""
    return encode_page(EXIT_EXCEPTION, {"exception": vector, "error_code": error_code})


def shutdown() -> bytes:
    """KVM_EXIT_SHUTDOWN: a triple fault."""
    return encode_page(EXIT_SHUTDOWN)
