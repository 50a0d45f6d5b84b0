"""Which library takes instructions apart: iced-x86 where it is installed, capstone elsewhere.

Both give the same :class:`Instruction` and the same form; tests hold them to it. iced-x86 comes first, as it starts
faster and knows more encodings; it has no wheel for Linux on aarch64 and for macOS on arm64, and capstone has.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, Literal, Protocol, cast, get_args

from kvmwhy.arch.x86.instruction import Instruction, Syntax

Name = Literal["iced", "capstone"]

NAMES: Final[tuple[Name, ...]] = get_args(Name)
_MODULES: Final[dict[Name, str]] = {
    "iced": "kvmwhy.arch.x86.iced.decode",
    "capstone": "kvmwhy.arch.x86.capstone.decode",
}


class NoDecoderError(ImportError):
    """Neither library is installed."""


class Decoder(Protocol):
    """What both have: see :func:`kvmwhy.arch.x86.instruction.decode_first` and ``form_of``."""

    def decode(self, code: bytes, *, bitness: int, address: int, syntax: Syntax) -> Instruction:
        """The first instruction in ``code``, which is not empty."""

    def form(self, code: bytes, bitness: int) -> str:
        """The form of the first instruction in ``code``, which is a whole one."""


class _Choice:
    decoder: Decoder | None = None


def decoder() -> Decoder:
    """The one that was chosen, or the first that is installed."""
    if _Choice.decoder is None:
        _Choice.decoder = _first_installed()
    return _Choice.decoder


def choose(name: Name) -> None:
    """Use this one where another would be taken. To be said before the first instruction: answers are kept."""
    _Choice.decoder = load(name)


def load(name: Name) -> Decoder:
    return cast("Decoder", import_module(_MODULES[name]))


def _first_installed() -> Decoder:
    for name in NAMES:
        try:
            return load(name)
        except ImportError:
            continue
    raise NoDecoderError("no decoder of x86 instructions is installed: pip install capstone, or iced-x86")
