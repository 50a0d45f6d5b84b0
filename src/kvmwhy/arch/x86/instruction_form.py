"""An instruction's form: the operation with the kinds and sizes of its operands, as ``movups xmm,m128``.

What a compiler chooses freely is not in it: general and vector registers, addresses, displacements, immediates. What
the instruction is about stays: control, debug and segment registers, CL of a shift, the port in DX.
"""

from __future__ import annotations

from functools import lru_cache

from kvmwhy.arch.x86.decoder import decoder
from kvmwhy.arch.x86.instruction import Instruction


def form_of(instruction: Instruction, *, bitness: int) -> str | None:
    """The form of a decoded instruction; of one that was cut off, what is sure of it; ``None`` of bytes that are none.

    ``bitness`` is that of the decoding. EVEX is named where it was used: what KVM can do with one encoding of VMOVUPS
    it need not be able to do with the other.
    """
    if instruction.text is None:
        return f"{instruction.mnemonic} (cut off)" if instruction.mnemonic else None
    return _form(instruction.bytes, bitness)


@lru_cache(maxsize=4096)  # pure, and asked the same again and again
def _form(code: bytes, bitness: int) -> str:
    return decoder().form(code, bitness)
