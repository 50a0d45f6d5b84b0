"""probe.forms: every encoding that iced-x86 knows, generated."""

from __future__ import annotations

import gzip
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import iced_x86
import pytest

from kvmwhy.arch.x86.iced.decode import text_of
from kvmwhy.probe import encodings
from kvmwhy.probe.encodings import BITNESS, MODES, Form, all_forms, form_of
from kvmwhy.probe.guest import FIELD, OPERAND

LIST = Path(__file__).parents[3] / "shared" / "lab" / "probes-sweep.txt.gz"
OPTIONS: set[Any] = {value for value in vars(iced_x86.DecoderOptions).values() if isinstance(value, int)}
CODES: list[Any] = [value for value in vars(iced_x86.Code).values() if isinstance(value, int)]


@cache
def known() -> tuple[tuple[Form, iced_x86.Instruction], ...]:
    """Every form that was built from an opcode, decoded by whichever option knows it."""
    found = []
    for form in all_forms():
        if form.kind in {"iced", "lock", "rep", "repne"}:
            for option in (iced_x86.DecoderOptions.NONE,) if form.defined else sorted(OPTIONS):
                decoder = iced_x86.Decoder(BITNESS[form.mode], form.code, options=option, ip=encodings.ORIGIN)
                decoded = decoder.decode()
                if text_of(decoded) == form.text:
                    found.append((form, decoded))
                    break
            else:
                pytest.fail(f"{form} decodes to something else")
    return tuple(found)


# UD0 has no operands for the Encoder, MONTMUL an address size of its own, LOOP and JRCXZ here 16 bits of RIP; POP CS
# is the 8086's.
NOT_BUILT = {"UD0", "MONTMUL", "LOOP rel8", "LOOPE rel8", "LOOPNE rel8", "JRCXZ rel8", "POP CS"}


def test_every_opcode() -> None:
    """All of iced's instructions are there, in each mode that has them, but for those that it cannot encode."""
    bytes_of = {(form.mode, form.code) for form in all_forms()}
    lacking = set()
    with_memory = 0
    for code in CODES:
        info = iced_x86.OpCodeInfo(code)
        if not info.is_instruction or info.fwait:
            continue
        variants = [form for mode in MODES for form in encodings._variants(code, mode)]
        assert bytes_of >= {(form.mode, form.code) for form in variants}
        with_memory += any(form.memory for form in variants)
        if not variants:
            lacking.add(info.instruction_string)
    assert lacking <= NOT_BUILT
    assert with_memory > 4100


def test_unique() -> None:
    """No form twice."""
    assert len({(form.mode, form.code) for form in all_forms()}) == len(all_forms())


def test_whole() -> None:
    """Each decodes to one whole instruction of 1 to 15 bytes."""
    for form, decoded in known():
        assert 1 <= len(form.code) <= 15
        assert decoded.len == len(form.code), form


def test_operand_is_where_the_probe_expects_it() -> None:
    """An operand in ModRM is at BX, EBX or RBX without displacement; one at an address is at the operand's."""
    seen: Counter[str] = Counter()
    names = {value: name for name, value in vars(iced_x86.Register).items() if isinstance(value, int)}
    for form, decoded in known():
        if not any(decoded.op_kind(n) == iced_x86.OpKind.MEMORY for n in range(decoded.op_count)):
            continue
        base = names[decoded.memory_base]
        if base == "NONE":
            assert decoded.memory_displacement == (FIELD if BITNESS[form.mode] == 16 else OPERAND + FIELD)
        else:
            assert base in {"BX", "EBX", "RBX"}, form
            assert decoded.memory_displacement == 0, form
        seen[base] += 1
    assert seen["RBX"] > 3500
    assert seen["EBX"] > 3000
    assert seen["BX"] > 3000
    assert seen["NONE"] >= 20


def test_sides() -> None:
    """String stores lead through DI, pushes and pops through the stack pointer."""
    side = {form.text: form.side for form in all_forms() if form.mode == "long64" and form.kind == "iced"}
    assert side["stosd [rdi]"] == side["movsb [rdi],[rsi]"] == "di"
    assert side["lodsd [rsi]"] == "bx"
    assert side["push rdx"] == side["ret"] == "sp"
    assert side["push qword ptr [rbx]"] == "bx"


def test_prefixes() -> None:
    """LOCK and REP stand where they mean something."""
    text = {form.text for form in all_forms() if form.mode == "prot32"}
    assert {"lock add [ebx],edx", "rep stosb [edi]", "repne scasb [edi]"} <= text
    assert "lock mov [ebx],edx" not in text


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: encodings.Mode) -> None:
    """Each mode has its forms; real mode has no VEX or EVEX, as no CPU takes them there."""
    mine = [form for form in all_forms() if form.mode == mode]
    assert len(mine) > 2000
    if mode == "real16":
        assert not any(form.text.startswith("v") and form.code[0] in {0xC4, 0xC5, 0x62} for form in mine)


def test_any_bytes() -> None:
    """Bytes that are no instruction are a form all the same."""
    form = form_of(b"\x0f\x0a", "long64")
    assert (form.text, form.defined) == ("(bad)", False)
    assert form_of(b"\xab", "prot16").side == "di"


@pytest.mark.skipif(not LIST.exists(), reason="the other sweep's list of encodings is not here")
def test_covers_another_sweep() -> None:
    """Every encoding of a sweep that others made is a form of ours, to the byte."""
    ours = {form.code.hex() for form in all_forms() if form.mode == "long64"}
    theirs = {line.split()[2] for line in gzip.decompress(LIST.read_bytes()).decode().splitlines()}
    assert len(theirs) == 10104
    assert theirs <= ours
