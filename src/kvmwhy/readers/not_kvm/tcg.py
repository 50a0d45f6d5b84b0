"""The exceptions that ``qemu -d int`` logs: those of a triple fault, and the registers at the first of them.

QEMU target/i386/tcg: ``check_exception old: 0x%x new 0x%x`` before each, then ``%6d: v=%02x e=%04x i=%d cpl=%d
IP=%04x:… pc=… SP=… CR2=…`` for each that is delivered, and ``Triple fault`` at the end. Registers stand below each.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from kvmwhy.record import Cpu, Fault

_NONE: Final = 0xFFFFFFFF
_PAGE_FAULT: Final = 14
_DOUBLE_FAULT: Final = 8
_STEP: Final = re.compile(
    r"check_exception old: 0x(?P<old>[0-9a-f]{1,8}) new 0x(?P<new>[0-9a-f]{1,4})"
    r"|: v=(?P<vector>[0-9a-f]{2}) e=(?P<error>[0-9a-f]{4}) i=(?P<soft>[01]) cpl=(?P<cpl>[0-3])"
    r" IP=(?P<cs>[0-9a-f]{4}):(?P<ip>[0-9a-f]{8,16}) pc=(?P<pc>[0-9a-f]{8,16})"
    r"(?: SP=[0-9a-f]{4}:[0-9a-f]{8,16})?(?: CR2=(?P<cr2>[0-9a-f]{8,16}))?"
)
_MOST: Final = 200_000
_CHAIN: Final = 4
_HEX: Final = 16


class Ended(NamedTuple):
    """The last exceptions in a log. ``is_triple``: the CPU shut down. ``dump``: where the first one's registers are."""

    faults: tuple[Fault, ...] = ()
    is_triple: bool = False
    cpl: int | None = None
    dump: int | None = None

    @property
    def fields(self) -> dict[str, int | str]:
        """The first of them, as fields of the speaker."""
        if not self.faults:
            return {}
        first = self.faults[0]
        values = {
            "vector": first.vector,
            "error_code": first.error_code,
            "pc": first.rip,
            "cpl": self.cpl,
            "cr2": first.cr2,
            "triple_fault": 1 if self.is_triple else None,
        }
        return {name: value for name, value in values.items() if value is not None}


class _Step(NamedTuple):
    fault: Fault
    at: int | None = None
    cpl: int | None = None


def ended(text: str) -> Ended:
    """The exceptions of the last triple fault; without one, the last exception that began anew."""
    chain: list[_Step] = []
    last_triple: list[_Step] = []
    announced: list[_Step] = []  # the first exception, where no line says that it was delivered
    for n, step in enumerate(_STEP.finditer(text)):
        if n >= _MOST:
            break
        if step["old"] is not None:
            old, new = int(step["old"], _HEX), int(step["new"], _HEX)
            if old == _DOUBLE_FAULT:  # a third exception while a double fault was delivered
                last_triple, chain = chain or announced, []
            elif old == _NONE and not _goes_on(chain, new):
                chain, announced = [], [_Step(Fault(vector=new))]
        elif step["soft"] != "1" and len(chain) < _CHAIN:
            chain.append(_delivered(step))
    steps = last_triple or chain[:1] or announced
    if not steps:
        return Ended()
    return Ended(tuple(s.fault for s in steps), bool(last_triple), steps[0].cpl, steps[0].at)


def _goes_on(chain: list[_Step], vector: int) -> bool:
    """A benign exception that could not be delivered counts as none: what comes in its place is of the same RIP."""
    return bool(chain) and chain[-1].fault.vector not in {_DOUBLE_FAULT, _PAGE_FAULT} and vector in {10, 11, 12, 13, 14}


def _delivered(step: re.Match[str]) -> _Step:
    vector = int(step["vector"], _HEX)
    fault = Fault(
        vector=vector,
        error_code=int(step["error"], _HEX),
        cr2=int(step["cr2"], _HEX) if vector == _PAGE_FAULT and step["cr2"] else None,
        rip=int(step["pc"], _HEX),
    )
    return _Step(fault, step.end(), int(step["cpl"]))


def registers(text: str, at: int | None) -> Cpu | None:
    """The dump that begins in the next line."""
    begin = -1 if at is None else text.find("\n", at)
    if begin < 0:
        return None
    from kvmwhy.readers.qemu.debug_dump import LONGEST
    from kvmwhy.readers.qemu.debug_dump import registers as read_registers

    end = text.find("check_exception", begin, begin + LONGEST)
    return read_registers(text[begin + 1 : begin + LONGEST if end < 0 else end])
