"""``iced_x86`` where there is no wheel of it: iced's build for WebAssembly, under the names of its Python package.

It has what ``kvmwhy.arch.x86.iced.decode`` uses, and nothing else: no form of an instruction, which only signatures
need. In the page it is installed as ``iced_x86``, so that the choice of a decoder finds it there.
"""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any, Final

import js  # Pyodide's
from pyodide.ffi import to_js

_iced: Final = js.iced
_NAMES: Final = {"len": "length", "memory_displacement": "memoryDisplacementU64"}


def _camel(name: str) -> str:
    return _NAMES.get(name) or re.sub("_([a-z])", lambda found: found[1].upper(), name)


def _enum(name: str) -> SimpleNamespace:
    """The names in capitals, as Python has them. iced's objects have each number as a key, too."""
    values = getattr(_iced, name)
    return SimpleNamespace(
        **{key.upper(): getattr(values, key) for key in js.Object.keys(values) if not key[0].isdigit()}
    )


Register: Final = _enum("Register")
MemorySize: Final = _enum("MemorySize")
FormatMnemonicOptions: Final = SimpleNamespace(NO_PREFIXES=_iced.FormatMnemonicOptions.NoPrefixes)
FormatterSyntax: Final = SimpleNamespace(
    GAS=_iced.FormatterSyntax.Gas, INTEL=_iced.FormatterSyntax.Intel, MASM=_iced.FormatterSyntax.Masm
)


class MemorySizeExt:
    @staticmethod
    def size(value: int) -> int:
        return int(_iced.MemorySizeExt.size(value))


class _Object:
    """An object of iced, with Python's names for its properties. What it holds in iced's memory is freed with it."""

    def __init__(self, held: Any) -> None:
        object.__setattr__(self, "held", held)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.held, _camel(name))
        return int(value) if type(value).__name__ == "JsBigInt" else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.held, _camel(name), value)

    def __del__(self) -> None:
        self.held.free()


class Instruction(_Object):
    pass


class Decoder(_Object):
    def __init__(self, bitness: int, data: bytes, *, ip: int = 0) -> None:
        super().__init__(_iced.Decoder.new(bitness, to_js(data), 0))
        self.held.ip = js.BigInt(str(ip))

    def decode(self) -> Instruction:
        return Instruction(self.held.decode())


class Formatter(_Object):
    def __init__(self, syntax: int) -> None:
        super().__init__(_iced.Formatter.new(syntax))

    def format(self, instruction: Instruction) -> str:
        return str(self.held.format(instruction.held))

    def format_mnemonic(self, instruction: Instruction, options: int) -> str:
        return str(self.held.formatMnemonicOptions(instruction.held, options))


class _Memory(_Object):
    """Memory in use. The size of its address, which this build does not tell, follows from the rest."""

    def __init__(self, held: Any, instruction: Instruction) -> None:
        super().__init__(held)
        object.__setattr__(self, "_displacement", (instruction.memory_base, instruction.memory_displ_size))

    @property
    def address_size(self) -> int:
        """The number that iced_x86 has for it: 1, 2, 3 for 16, 32, 64 bits."""
        base, size = self._displacement
        named = self.held.base or self.held.index or (base if base in {Register.EIP, Register.RIP} else 0)
        width = _iced.RegisterExt.size(named) if named else size
        return {2: 1, 4: 2, 8: 3}.get(width, 0)


class _Info(_Object):
    def __init__(self, held: Any, instruction: Instruction) -> None:
        super().__init__(held)
        object.__setattr__(self, "_instruction", instruction)

    def used_memory(self) -> list[_Memory]:
        return [_Memory(memory, self._instruction) for memory in self.held.usedMemory()]


class InstructionInfoFactory(_Object):
    def __init__(self) -> None:
        super().__init__(_iced.InstructionInfoFactory.new())

    def info(self, instruction: Instruction) -> _Info:
        return _Info(self.held.info(instruction.held), instruction)


sys.modules["iced_x86._iced_x86_py"] = sys.modules[__name__]
