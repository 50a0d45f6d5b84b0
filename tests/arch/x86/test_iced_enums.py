"""Our tables of iced-x86's numbers, held to the library."""

from __future__ import annotations

import pytest

iced_x86 = pytest.importorskip("iced_x86", reason="iced-x86 is not installed")

from kvmwhy.arch.x86.iced.decode import _ACCESS, _ADDRESS_SIZE, _ENCODING  # noqa: E402 -- needs the library


def test_the_library_numbers_its_enums_as_we_do() -> None:
    """Our tables are indexed by iced_x86's numbers; a release that renumbers must fail here."""
    for kind, table in ((iced_x86.OpAccess, _ACCESS), (iced_x86.EncodingKind, _ENCODING)):
        for name, number in vars(kind).items():
            if name.isupper():
                ours = table[number].upper().replace("-", "_")
                assert name in (ours, "NO_MEM_ACCESS", "D3NOW"), name
    assert _ADDRESS_SIZE[iced_x86.CodeSize.CODE16] == 16
    assert _ADDRESS_SIZE[iced_x86.CodeSize.CODE32] == 32
    assert _ADDRESS_SIZE[iced_x86.CodeSize.CODE64] == 64
    assert (iced_x86.OpKind.FAR_BRANCH16, iced_x86.OpKind.FAR_BRANCH32, iced_x86.OpKind.MEMORY) == (4, 5, 24)
    assert iced_x86.DecoderError.NO_MORE_BYTES == 2
