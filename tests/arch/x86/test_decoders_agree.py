"""Both decoders say the same: names, operands, text and forms, and all that is made of them.

What differs is listed: where capstone errs, and what then protects an answer.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytest.importorskip("iced_x86", reason="iced-x86 is not installed: there is nothing to compare with")
pytest.importorskip("capstone", reason="capstone is not installed: there is nothing to compare")

from kvmwhy.arch.x86.decoder import load
from kvmwhy.probe.encodings import BITNESS, all_forms
from pipeline.texts import CORPUS, NO_CORPUS, ROOT

ICED, CAPSTONE = load("iced"), load("capstone")
PROGRAM = Path(__file__).parent / "explain_with.py"
# All of them take a minute; CI takes all, and a developer's machine one of so many.
STEP: Final = 1 if "KVMWHY_EVERY_ENCODING" in os.environ else 11

# Where capstone 5 errs, by iced-x86's text of the instruction.
KNOWN: Final = (
    # Not known to it, and nothing known to it has such operands: taken for no instruction. The atlas goes by opcode
    # bytes, and says of them what KVM does all the same; their length is the one that KVM recorded.
    r"t(?:dp|cmm|ile)\w*.*|(?:ld|st)tilecfg.*|vsha512\w+.*",
    r"a(?:add|and|or|xor)\b.*|enqcmds?\b.*|hreset.*|lkgs.*",
    # VEX with W set, which means nothing to them.
    r"vp(?:insr|extr)[bw]\b.*|vpcmpestr[im]64.*|\{evex\} vmovw .*",
    # VIA's and Zhaoxin's: neither the prefix before them nor what they touch through SI and DI is shown.
    r"(?:addr\d\d |rep )*(?:montmul|x(?:sha|crypt|store)\w*|ccs_\w+|undoc).*",
    # What they touch is not in ModRM: nothing is emulated through it.
    r"pbndkb|rdmsrlist|wrmsrlist|rmpupdate",
    # XOP's 32-bit immediate is cut to 16 bits in 16-bit code: KVM's own length of the instruction is right.
    r"(?:bextr|lwpins|lwpval)\b.*",
)


def differs(code: bytes, bitness: int, syntax: str = "intel") -> str | None:
    """What the two say of these bytes, if it is not the same."""
    ours = CAPSTONE.decode(code, bitness=bitness, address=0x1000, syntax="att" if syntax == "att" else "intel")
    theirs = ICED.decode(code, bitness=bitness, address=0x1000, syntax="att" if syntax == "att" else "intel")
    if theirs.invalid and ours.invalid:
        return None
    if ours != theirs:
        return f"{bitness} {code.hex()}: {theirs.text} | {ours.text}"
    if ours.text is not None:
        forms = ICED.form(ours.bytes, bitness), CAPSTONE.form(ours.bytes, bitness)
        return None if forms[0] == forms[1] else f"{bitness} {code.hex()}: {forms[0]} | {forms[1]}"
    return None


def known(difference: str) -> bool:
    text = difference.partition(": ")[2].partition(" | ")[0]
    return any(re.fullmatch(pattern, text) for pattern in KNOWN)


def test_every_encoding_of_the_atlas() -> None:
    """What CPUs have today decodes alike in every mode, but for what is listed."""
    forms = [form for form in all_forms() if form.defined][::STEP]
    found = [line for form in forms if (line := differs(form.code, BITNESS[form.mode]))]
    assert not [line for line in found if not known(line)]
    assert len(found) < len(forms) / 50


@pytest.mark.parametrize("bitness", [16, 32, 64])
def test_random_bytes(bitness: int) -> None:
    """Of random bytes, 98 in 100 are taken for the same; none raises."""
    draw = random.Random(bitness)  # noqa: S311 -- nothing secret
    codes = [draw.randbytes(15) for _ in range(1500)]
    found = [line for code in codes if (line := differs(code, bitness))]
    assert len(found) < len(codes) * 0.02, found[:20]


@pytest.mark.parametrize("bitness", [16, 32, 64])
def test_every_operand_of_an_instruction_that_guests_use(bitness: int) -> None:
    """Moves, arithmetic, string and x87 operations, SSE moves and XSAVE, with any ModRM, SIB and prefix of a size or
    a segment: text, operands and form are the same."""
    draw = random.Random(bitness)  # noqa: S311 -- nothing secret
    one_byte = "01 03 8a 8b 88 89 c6 c7 80 81 83 85 8d a4 a5 ab ad a0 a3 d8 d9 db dd f6 f7 ff c1 d3"
    behind_0f = "10 11 28 29 2b 6f 7f e7 ae c7 b6 b7 be bf b0 b1 c0 c1 ab 01 00"
    opcodes = [*(bytes([n]) for n in bytes.fromhex(one_byte)), *(bytes([0x0F, n]) for n in bytes.fromhex(behind_0f))]
    prefixes = [b"", b"", b"", b"\x66", b"\x67", b"\x2e", b"\x64", b"\x65", b"\xf3", b"\xf0", b"\x26"]
    found = []
    for _ in range(1500):
        rex = bytes([draw.randrange(0x40, 0x50)]) if bitness == 64 and draw.random() < 0.5 else b""
        code = (draw.choice(prefixes) + rex + draw.choice(opcodes) + draw.randbytes(12))[:15]
        if line := differs(code, bitness):
            found.append(line)
    assert not [line for line in found if not known(line)]


def explained(decoder: str, paths: list[Path]) -> list[str]:
    command = [sys.executable, str(PROGRAM), decoder, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_examples_are_explained_alike() -> None:
    """The JSON and the signature of every example are the same with either decoder, to the byte."""
    paths = sorted((ROOT / "examples").glob("*.log"))
    iced = explained("iced", paths)
    assert len(iced) >= len(paths)
    assert explained("capstone", paths) == iced


def test_public_reports_are_explained_alike() -> None:
    """The same of every public report."""
    paths = sorted(CORPUS.glob("*/evidence.txt"))
    if not paths:
        pytest.skip(NO_CORPUS)
    assert explained("capstone", paths) == explained("iced", paths)
