"""emulator.key: what makes two instructions the same to an emulator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.emulator.encoding_key import BITS, LOCK, MODES, REX_W, Mode, key_of, mode_of, relaxed


def key(text: str, mode: Mode = "long64") -> int:
    found = key_of(bytes.fromhex(text), mode)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("8b 03", "8b 47 10"),  # another address
        ("8b 03", "64 8b 03"),  # a segment override
        ("8b 03", "67 8b 03"),  # the address size
        ("8b 03", "44 8b 3b"),  # REX.R
        ("66 0f 6f 03", "66 0f 6f 0c 25 00 00 00 00"),  # a SIB byte
        ("f3 66 0f 6f 03", "66 f3 0f 6f 03"),  # the order of prefixes
        ("f2 f3 0f 6f 03", "f3 0f 6f 03"),  # the last of F2 and F3
        ("c5 fe 6f 03", "c4 e1 7e 6f 07"),  # two ways to write VEX
        ("b8 01 00 00 00", "b8 ff ff ff ff"),  # an immediate
        ("48 66 8b 03", "66 8b 03"),  # a REX prefix that a later one cancels
        ("0f 20 00", "0f 20 c0"),  # moves of control registers ignore mod
    ],
)
def test_equal_forms(one: str, other: str) -> None:
    """What no decoder chooses an instruction by is not in the key."""
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("8b 03", "8b c3"),  # memory or register
        ("8b 03", "89 03"),
        ("8b 03", "66 8b 03"),
        ("8b 03", "48 8b 03"),
        ("01 03", "f0 01 03"),
        ("0f 6f 03", "0f 38 6f 03"),
        ("66 0f 6f 03", "f3 0f 6f 03"),
        ("0f ae 03", "0f ae 0b"),  # groups: ModRM.reg selects
        ("d9 03", "d9 3b"),
        ("db e2", "db e3"),  # and rm, with a register
        ("c5 fe 6f 03", "c5 fa 6f 03"),  # VEX.L
        ("c5 fe 6f 03", "f3 0f 6f 03"),
        ("c5 f9 6f 03", "66 c5 f9 6f 03"),  # 66 before VEX
        ("62 f1 fe 48 6f 03", "62 f1 7e 48 6f 03"),  # EVEX.W
        ("62 f1 fe 48 6f 03", "62 f1 fe 49 6f 03"),  # masking
        ("8f 03", "8f e9 78 12 03"),  # POP, XOP
        ("d5 08 8b 03", "8b 03"),  # REX2
    ],
)
def test_different_forms(one: str, other: str) -> None:
    """What selects an instruction, or makes KVM refuse it, is."""
    assert key(one) != key(other)


def test_modes_and_bits() -> None:
    """A key knows its mode and fits its columns; C4 in 32-bit code is LES unless it would name a register."""
    for mode in MODES:
        assert mode_of(key("8b 03", mode)) == mode
        assert key("8b 03", mode) < 1 << BITS
    assert key("c4 e1 7e 6f 07") & ~(3 << 37) == key("c4 e1 7e 6f 07", "prot32") & ~(3 << 37)
    assert key("c4 03", "prot32") == key("c4 0b", "prot32")


@pytest.mark.parametrize("text", ["", "66", "0f", "0f 38", "c5", "c4 e1 7e 6f", "62 f1 7c 48", "8b", "f0 f0 f0"])
def test_torn(text: str) -> None:
    """Bytes that end before the instruction is known have no key."""
    assert key_of(bytes.fromhex(text), "long64") is None


@given(st.binary(max_size=20), st.sampled_from(MODES))
def test_any_bytes(code: bytes, mode: Mode) -> None:
    """Nothing raises, what follows the first fifteen bytes does not matter, and relaxed keys are other keys."""
    found = key_of(code, mode)
    assert found is None or 0 <= found < 1 << BITS
    if len(code) >= 15:
        assert key_of(code + b"\x66" * 9, mode) == found
    if found is not None:
        others = [other for other, _ in relaxed(found)]
        assert found not in others
        assert all(mode_of(other) == mode for other in others)


def test_relaxed_never_drops_lock() -> None:
    """A form without LOCK is no stand-in for one with it."""
    locked = key("f0 48 01 03")
    assert locked & LOCK
    assert all(other & LOCK for other, _ in relaxed(locked))
    assert relaxed(locked)[0] == (locked & ~REX_W, "REX.W")
