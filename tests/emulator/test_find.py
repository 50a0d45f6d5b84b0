"""probe.find: from an instruction's text to its measured forms."""

from __future__ import annotations

import pytest

from kvmwhy.emulator.atlas import atlas
from kvmwhy.probe.lookup import find, shape_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("movntdqa xmm0,[rdi]", "MOVNTDQA xmm9, xmmword ptr [rbx+8*rcx-4]"),
        ("add dword ptr [rbx],5", "add [rax], 77h"),
        ("rep movsb [rdi],[rsi]", "repz  movsb [rdi],[rsi]"),
        ("vpaddd zmm1{k1}{z},zmm2,[rbx]", "vpaddd zmm3,zmm4,[rax]"),
        ("fld st(3)", "fld st1"),
    ],
)
def test_same_shape(one: str, other: str) -> None:
    """Registers of one kind, addresses and constants are alike."""
    first, second = shape_of(one), shape_of(other)
    assert first is not None
    assert second is not None
    assert first.fits(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mov eax,[rbx]", "mov [rbx],eax"),
        ("mov eax,[rbx]", "mov rax,[rbx]"),
        ("mov eax,ebx", "mov eax,[rbx]"),
        ("lock add [rbx],eax", "add [rbx],eax"),
        ("fld dword ptr [rbx]", "fld qword ptr [rbx]"),
        ("movups xmm0,[rbx]", "vmovups xmm0,[rbx]"),
    ],
)
def test_other_shape(one: str, other: str) -> None:
    """Direction, width, prefixes and mnemonics are not."""
    first, second = shape_of(one), shape_of(other)
    assert first is not None
    assert second is not None
    assert not first.fits(second)


@pytest.mark.parametrize("text", ["", "   ", "lock", "%eax", "[rbx]", "\x1b[31mmov", "$" + "mov" * 200])
def test_no_instruction(text: str) -> None:
    """What is no instruction has no shape, and nothing raises."""
    assert shape_of(text) is None


def test_finds() -> None:
    """A text finds its form; a mnemonic alone finds all of its forms; nonsense finds none."""
    (found, *_) = find(atlas(), "movntdqa xmm0,[rdi]", "long64")
    assert found.row.code[:4] == bytes.fromhex("66 0f 38 2a")
    assert found.row.defined
    assert len(find(atlas(), "movbe", "long64")) >= 6
    assert find(atlas(), "frobnicate eax", "long64") == []
