"""Forms: which words stand for which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.arm64 import forms as arm64
from kvmwhy.arch.arm64.load_store import load_store
from kvmwhy.arch.forms import Group, Operand, all_forms, group_of
from kvmwhy.arch.riscv64 import forms as riscv64

WORDS = st.integers(0, (1 << 32) - 1)


def test_a_group() -> None:
    """Bits that select are enumerated, operands are not, and a value apart stands for itself."""
    group = Group("a pair or one", "1.0 ..", (Operand(1, 0, 2, (3,)),))
    assert list(group.forms()) == [0b10010, 0b10011, 0b11010, 0b11011]
    assert [group.form(0b10000 | value) & 3 for value in range(4)] == [2, 2, 2, 3]
    assert group_of((group,), 0b00110) is None


@pytest.mark.parametrize("groups", [arm64.GROUPS, riscv64.WIDE, riscv64.COMPRESSED])
def test_every_form_stands_for_itself(groups: tuple[Group, ...]) -> None:
    """No form is listed twice, and none is another's."""
    words = [word for _, word in all_forms(groups)]
    assert len(words) == len(set(words))
    for word in words:
        group = group_of(groups, word)
        assert group is not None
        assert group.form(word) == word


@given(WORDS)
def test_operands_change_nothing(word: int) -> None:
    """What Arm's manual says of a word it says of its form, and every load or store that it allocates has one."""
    manual = load_store(word)
    form = arm64.form_of(word)
    if form is None:
        assert manual in {None, "undefined"}
    else:
        assert form in FORMS
        assert load_store(form) == manual


FORMS = frozenset(arm64.forms())


@given(WORDS)
def test_forms_of_riscv(word: int) -> None:
    """A word's form is in the list, and has its length."""
    form = riscv64.form_of(word)
    if form is not None:
        assert form in RISCV_FORMS
        assert riscv64.is_compressed(form) == riscv64.is_compressed(word)


RISCV_FORMS = frozenset(riscv64.forms())


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (0xF9400003, "unsigned offset"),
        (0xA9401003, "pair"),
        (0xF8408403, "unscaled, pre- or post-indexed, unprivileged"),
        (0xC85F7C03, "exclusive or ordered"),
        (0xF8208003, "atomic"),
        (0x4C407003, "SIMD structures"),
        (0xD50B7420, "IC, DC, AT"),
        (0xA540A003, "SVE"),
    ],
)
def test_groups_of_known_words(word: int, name: str) -> None:
    """Words as binutils assembles them: ldr, ldp, post-indexed ldr, ldxr, swp, ld1, dc zva, ld1w."""
    group = group_of(arm64.GROUPS, word)
    assert group is not None
    assert group.name == name
