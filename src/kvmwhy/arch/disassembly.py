"""The text of an instruction of another architecture than x86, by capstone where it is installed."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple

_MOST: Final = 8  # bytes: no instruction of these architectures is longer


class Text(NamedTuple):
    """The first instruction of some bytes."""

    text: str
    size: int


def disassemble(arch: str | None, code: bytes, address: int = 0, *, big_endian: bool = False) -> Text | None:
    """The first instruction; ``None``: no decoder is installed, or the bytes are none of this architecture."""
    decoder = _decoder(arch, big_endian) if code else None
    if decoder is None:
        return None
    for _, size, mnemonic, operands in decoder.disasm_lite(code[:_MOST], address, 1):
        return Text(f"{mnemonic} {operands}".strip(), size)
    return None


@cache
def _decoder(arch: str | None, big_endian: bool) -> Any:
    try:
        import capstone
    except ImportError:
        return None
    order = capstone.CS_MODE_BIG_ENDIAN if big_endian else capstone.CS_MODE_LITTLE_ENDIAN
    match arch:
        case "arm64":
            return capstone.Cs(capstone.CS_ARCH_ARM64, order)
        case "riscv64":
            return capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC)
        case "ppc64" | "ppc":
            return capstone.Cs(capstone.CS_ARCH_PPC, capstone.CS_MODE_64 | order)
        case "s390x":
            return capstone.Cs(capstone.CS_ARCH_SYSZ, capstone.CS_MODE_BIG_ENDIAN)
        case "mips":
            return capstone.Cs(capstone.CS_ARCH_MIPS, capstone.CS_MODE_MIPS64 | order)
    return None
