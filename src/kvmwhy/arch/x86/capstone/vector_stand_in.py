"""Opcodes of VEX and EVEX that capstone does not know, and those with the same operands that stand in for them.

FP16, BF16, VNNI and its later kinds, SM3, SM4, CMPccXADD (SDM vol. 2; Intel's ISE reference). AMX's tiles
have operands that nothing else has, and are left out.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from kvmwhy.arch.x86.capstone.scan import Scan
from kvmwhy.arch.x86.capstone.values import ROUNDINGS, Memory, Operand, Parsed, Register

_PREFIXES: Final = {"np": 0, "66": 1, "f3": 2, "f2": 3}

# What stands in, by the kinds of operands: map, prefix, opcode, W.
_DONORS: Final = {
    "vvv": (1, 0, 0x58, 0),  # VADDPS
    "vv": (1, 0, 0x51, 0),  # VSQRTPS
    "vvi": (3, 1, 0x08, 0),  # VRNDSCALEPS
    "xxx": (1, 2, 0x58, 0),  # VADDSS
    "xxxi": (3, 1, 0x0A, 0),  # VRNDSCALESS
    "xx": (1, 0, 0x2E, 0),  # VUCOMISS
    "kvvi": (1, 0, 0xC2, 0),  # VCMPPS
    "kxxi": (1, 2, 0xC2, 0),  # VCMPSS
    "kvi": (3, 1, 0x66, 0),  # VFPCLASSPS
    "kxi": (3, 1, 0x67, 0),  # VFPCLASSSS
    "kvv": (1, 1, 0x76, 0),  # VPCMPEQD
    "vh": (1, 0, 0x5A, 0),  # VCVTPS2PD: from half a vector
    "vq": (2, 1, 0x24, 0),  # VPMOVSXWQ: from a quarter
    "hv": (1, 1, 0x5A, 1),  # VCVTPD2PS: to half a vector
    "xv": (1, 1, 0x5A, 1),  # the same, to XMM
    "rx": (1, 2, 0x2D, None),  # VCVTSS2SI
    "xxr": (1, 2, 0x2A, None),  # VCVTSI2SS
    "load": (1, 2, 0x10, 0),  # VMOVSS
    "store": (1, 2, 0x11, 0),
    "xr": (1, 1, 0x6E, 0),  # VMOVD
    "rxs": (1, 1, 0x7E, 0),
    "vm": (1, 3, 0xF0, 0),  # VLDDQU
    "vb": (2, 1, 0x18, 0),  # VBROADCASTSS
    "vvvi": (3, 1, 0x02, 0),  # VPBLENDD
    "mrr": (2, 0, 0xF7, None),  # BEXTR, its first two operands the other way round
}

# encoding map prefix opcode W: name; operands; bytes in memory (v, h and q: of the vector), of a broadcast; rounding
_TABLE: Final = """
evex 5 np 58 0: vaddph; vvv; v 2; er
evex 5 f3 58 0: vaddsh; xxx; 2 2; er
evex 5 np 59 0: vmulph; vvv; v 2; er
evex 5 f3 59 0: vmulsh; xxx; 2 2; er
evex 5 np 5c 0: vsubph; vvv; v 2; er
evex 5 f3 5c 0: vsubsh; xxx; 2 2; er
evex 5 np 5e 0: vdivph; vvv; v 2; er
evex 5 f3 5e 0: vdivsh; xxx; 2 2; er
evex 5 np 5d 0: vminph; vvv; v 2; sae
evex 5 f3 5d 0: vminsh; xxx; 2 2; sae
evex 5 np 5f 0: vmaxph; vvv; v 2; sae
evex 5 f3 5f 0: vmaxsh; xxx; 2 2; sae
evex 5 np 51 0: vsqrtph; vv; v 2; er
evex 5 f3 51 0: vsqrtsh; xxx; 2 2; er
evex 5 np 2e 0: vucomish; xx; 2 2; sae
evex 5 np 2f 0: vcomish; xx; 2 2; sae
evex 5 f3 10 0: vmovsh; load; 2 2;
evex 5 f3 11 0: vmovsh; store; 2 2;
evex 5 66 6e *: vmovw; xr; 2 2;
evex 5 66 7e *: vmovw; rxs; 2 2;
evex 5 np 1d 0: vcvtss2sh; xxx; 4 4; er
evex 5 66 1d 0: vcvtps2phx; hv; v 4; er
evex 5 f3 2a *: vcvtsi2sh; xxr; 0 0; er
evex 5 f3 2c *: vcvttsh2si; rx; 2 2; sae
evex 5 f3 2d *: vcvtsh2si; rx; 2 2; er
evex 5 f3 78 *: vcvttsh2usi; rx; 2 2; sae
evex 5 f3 79 *: vcvtsh2usi; rx; 2 2; er
evex 5 f3 7b *: vcvtusi2sh; xxr; 0 0; er
evex 5 np 5a 0: vcvtph2pd; vq; q 2; sae
evex 5 66 5a 1: vcvtpd2ph; xv; v 8; er
evex 5 f3 5a 0: vcvtsh2sd; xxx; 2 2; sae
evex 5 f2 5a 1: vcvtsd2sh; xxx; 8 8; er
evex 5 np 5b 0: vcvtdq2ph; hv; v 4; er
evex 5 np 5b 1: vcvtqq2ph; xv; v 8; er
evex 5 66 5b 0: vcvtph2dq; vh; h 2; er
evex 5 f3 5b 0: vcvttph2dq; vh; h 2; sae
evex 5 np 78 0: vcvttph2udq; vh; h 2; sae
evex 5 np 79 0: vcvtph2udq; vh; h 2; er
evex 5 66 78 0: vcvttph2uqq; vq; q 2; sae
evex 5 66 79 0: vcvtph2uqq; vq; q 2; er
evex 5 66 7a 0: vcvttph2qq; vq; q 2; sae
evex 5 66 7b 0: vcvtph2qq; vq; q 2; er
evex 5 f2 7a 0: vcvtudq2ph; hv; v 4; er
evex 5 f2 7a 1: vcvtuqq2ph; xv; v 8; er
evex 5 np 7c 0: vcvttph2uw; vv; v 2; sae
evex 5 66 7c 0: vcvttph2w; vv; v 2; sae
evex 5 np 7d 0: vcvtph2uw; vv; v 2; er
evex 5 66 7d 0: vcvtph2w; vv; v 2; er
evex 5 f3 7d 0: vcvtw2ph; vv; v 2; er
evex 5 f2 7d 0: vcvtuw2ph; vv; v 2; er
evex 6 66 13 0: vcvtph2psx; vh; h 2; sae
evex 6 np 13 0: vcvtsh2ss; xxx; 2 2; sae
evex 6 f3 56 0: vfmaddcph; vvv; v 4; er
evex 6 f2 56 0: vfcmaddcph; vvv; v 4; er
evex 6 f3 57 0: vfmaddcsh; xxx; 4 4; er
evex 6 f2 57 0: vfcmaddcsh; xxx; 4 4; er
evex 6 f3 d6 0: vfmulcph; vvv; v 4; er
evex 6 f2 d6 0: vfcmulcph; vvv; v 4; er
evex 6 f3 d7 0: vfmulcsh; xxx; 4 4; er
evex 6 f2 d7 0: vfcmulcsh; xxx; 4 4; er
evex 6 66 2c 0: vscalefph; vvv; v 2; er
evex 6 66 2d 0: vscalefsh; xxx; 2 2; er
evex 6 66 42 0: vgetexpph; vv; v 2; sae
evex 6 66 43 0: vgetexpsh; xxx; 2 2; sae
evex 6 66 4c 0: vrcpph; vv; v 2;
evex 6 66 4d 0: vrcpsh; xxx; 2 2;
evex 6 66 4e 0: vrsqrtph; vv; v 2;
evex 6 66 4f 0: vrsqrtsh; xxx; 2 2;
evex 3 np c2 0: vcmpph; kvvi; v 2; sae
evex 3 f3 c2 0: vcmpsh; kxxi; 2 2; sae
evex 3 np 66 0: vfpclassph; kvi; v 2;
evex 3 np 67 0: vfpclasssh; kxi; 2 2;
evex 3 np 26 0: vgetmantph; vvi; v 2; sae
evex 3 np 27 0: vgetmantsh; xxxi; 2 2; sae
evex 3 np 56 0: vreduceph; vvi; v 2; sae
evex 3 np 57 0: vreducesh; xxxi; 2 2; sae
evex 3 np 08 0: vrndscaleph; vvi; v 2; sae
evex 3 np 0a 0: vrndscalesh; xxxi; 2 2; sae
evex 2 f3 52 0: vdpbf16ps; vvv; v 4;
evex 2 f3 72 0: vcvtneps2bf16; hv; v 4;
evex 2 f2 72 0: vcvtne2ps2bf16; vvv; v 4;
evex 2 f2 68 0: vp2intersectd; kvv; v 4;
evex 2 f2 68 1: vp2intersectq; kvv; v 8;
vex 2 f3 72 0: vcvtneps2bf16; xv; v 0;
vex 2 np b0 0: vcvtneoph2ps; vm; v 0;
vex 2 66 b0 0: vcvtneeph2ps; vm; v 0;
vex 2 f3 b0 0: vcvtneebf162ps; vm; v 0;
vex 2 f2 b0 0: vcvtneobf162ps; vm; v 0;
vex 2 66 b1 0: vbcstnesh2ps; vb; 2 0;
vex 2 f3 b1 0: vbcstnebf162ps; vb; 2 0;
vex 2 66 50 0: vpdpbusd; vvv; v 0;
vex 2 66 51 0: vpdpbusds; vvv; v 0;
vex 2 66 52 0: vpdpwssd; vvv; v 0;
vex 2 66 53 0: vpdpwssds; vvv; v 0;
vex 2 np 50 0: vpdpbuud; vvv; v 0;
vex 2 np 51 0: vpdpbuuds; vvv; v 0;
vex 2 f3 50 0: vpdpbsud; vvv; v 0;
vex 2 f3 51 0: vpdpbsuds; vvv; v 0;
vex 2 f2 50 0: vpdpbssd; vvv; v 0;
vex 2 f2 51 0: vpdpbssds; vvv; v 0;
vex 2 np d2 0: vpdpwuud; vvv; v 0;
vex 2 np d3 0: vpdpwuuds; vvv; v 0;
vex 2 66 d2 0: vpdpwusd; vvv; v 0;
vex 2 66 d3 0: vpdpwusds; vvv; v 0;
vex 2 f3 d2 0: vpdpwsud; vvv; v 0;
vex 2 f3 d3 0: vpdpwsuds; vvv; v 0;
vex 2 66 b4 1: vpmadd52luq; vvv; v 0;
vex 2 66 b5 1: vpmadd52huq; vvv; v 0;
vex 2 np da 0: vsm3msg1; vvv; v 0;
vex 2 66 da 0: vsm3msg2; vvv; v 0;
vex 2 f3 da 0: vsm4key4; vvv; v 0;
vex 2 f2 da 0: vsm4rnds4; vvv; v 0;
vex 3 66 de 0: vsm3rnds2; vvvi; v 0;
"""
# VFMADD and its kin: map 6 has them of FP16 where map 2 has those of single precision.
_FUSED: Final = {
    0x6: ("vfmaddsub", "vvv"),
    0x7: ("vfmsubadd", "vvv"),
    0x8: ("vfmadd", "vvv"),
    0x9: ("vfmadd", "xxx"),
    0xA: ("vfmsub", "vvv"),
    0xB: ("vfmsub", "xxx"),
    0xC: ("vfnmadd", "vvv"),
    0xD: ("vfnmadd", "xxx"),
    0xE: ("vfnmsub", "vvv"),
    0xF: ("vfnmsub", "xxx"),
}
_FUSED_ORDER: Final = {0x9: "132", 0xA: "213", 0xB: "231"}
_CONDITIONS: Final = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
_MANUAL_CONDITIONS: Final = {"ae": "nb", "e": "z", "ne": "nz", "a": "nbe", "ge": "nl", "g": "nle"}


class VectorStandIn(NamedTuple):
    """Another opcode of VEX or EVEX, of the same length of vectors, without mask, broadcast and rounding."""

    name: str
    kind: str
    size: str  # in memory: v the vector, h half of it, q a quarter, or a number of bytes; 0: as it comes
    element: int  # of a broadcast
    rounding: str  # er, sae or nothing
    operation: str | None = None

    def encode(self, code: bytes, scanned: Scan) -> bytes:
        number, mandatory, opcode, wide = _DONORS[self.kind]
        out = bytearray(code)
        payload = scanned.at - 1
        if scanned.encoding == "evex":
            whole = 2 if scanned.broadcast and not scanned.memory else scanned.vector
            out[payload] = out[payload] & 0x08 | whole << 5
            payload -= 1
            out[payload - 1] = out[payload - 1] & ~7 | number
        else:
            out[payload - 1] = out[payload - 1] & 0xE0 | number
        out[payload] = out[payload] & 0x7C | mandatory | (scanned.wide if wide is None else wide) << 7
        out[scanned.at] = opcode
        return bytes(out)

    def longer(self, _: Scan) -> int:
        return 0

    def in_its_place(self, parsed: Parsed) -> Parsed:
        scanned = parsed.scan
        operands = tuple(
            self._sized(operand, scanned) if isinstance(operand, Memory) else operand for operand in parsed.operands
        )
        name = parsed.mnemonic[:-2] + self.name[-2:] if self.name.startswith("vcmp") else self.name
        rounded = scanned.broadcast and not scanned.memory and self.rounding
        rounding = None if not rounded else "sae" if self.rounding == "sae" else ROUNDINGS[scanned.vector]
        return parsed.named(name)._replace(
            operation=self.operation or name, operands=self._rearranged(operands), rounding=rounding
        )

    def _rearranged(self, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        if self.kind == "mrr":
            return (operands[1], operands[0], *operands[2:])
        first = operands[0]
        if self.kind == "xv" and isinstance(first, Register):
            return (Register(f"xmm{first.name[3:]}"), *operands[1:])
        return operands

    def _sized(self, memory: Memory, scanned: Scan) -> Memory:
        if scanned.broadcast:
            size = self.element
        elif self.size in {"v", "h", "q"}:
            size = 16 << scanned.vector >> "vhq".index(self.size)
        else:
            size = int(self.size) or memory.size
        displacement = memory.displacement
        if scanned.encoding == "evex" and (scanned.modrm or 0) & 0xC0 == 0x40 and memory.size:
            displacement = displacement * size // memory.size  # one byte counts operands
        return memory._replace(size=size, displacement=displacement)


_Key = tuple[str, int, int, int, bool]


@cache
def _table() -> dict[_Key, VectorStandIn]:
    out: dict[_Key, VectorStandIn] = {}
    for line in _TABLE.strip().splitlines():
        where, _, what = line.partition(": ")
        encoding, number, prefix, opcode, wide = where.split()
        name, kind, sizes, rounding = (part.strip() for part in what.split(";"))
        size, element = sizes.split()
        stand_in = VectorStandIn(name, kind, size, int(element), rounding)
        for wanted in (False, True) if wide == "*" else (wide == "1",):
            out[encoding, int(number), _PREFIXES[prefix], int(opcode, 16), wanted] = stand_in
    for row, order in _FUSED_ORDER.items():
        for column, (name, kind) in _FUSED.items():
            packed = kind == "vvv"
            stand_in = VectorStandIn(f"{name}{order}{'ph' if packed else 'sh'}", kind, "v" if packed else "2", 2, "er")
            out["evex", 6, 1, row << 4 | column, False] = stand_in
    for code, condition in enumerate(_CONDITIONS):
        manual = f"cmp{_MANUAL_CONDITIONS.get(condition, condition)}xadd"
        for wanted in (False, True):
            out["vex", 2, 1, 0xE0 | code, wanted] = VectorStandIn(f"cmp{condition}xadd", "mrr", "0", 0, "", manual)
    return out


def vector_stand_in(scanned: Scan) -> VectorStandIn | None:
    if scanned.opcode is None or scanned.encoding not in {"vex", "evex"}:
        return None
    stand_in = _table().get((scanned.encoding, scanned.number, scanned.mandatory, scanned.opcode, scanned.wide))
    registers_only = stand_in is not None and stand_in.kind in {"vm", "mrr"} and not scanned.memory
    return None if registers_only else stand_in
