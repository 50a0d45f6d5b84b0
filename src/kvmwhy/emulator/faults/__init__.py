"""What KVM carries out wrongly, by cause: docs/emulator-faults.md is made of it, and tests that fail while it holds.

>>> from kvmwhy.emulator.faults import of_form
>>> of_form("long64", bytes.fromhex("f3 0f bc 03")).id
'tzcnt-lzcnt'
"""

from __future__ import annotations

from functools import cache

from kvmwhy.emulator.faults.families import FAMILIES
from kvmwhy.emulator.faults.family import Family

__all__ = ["FAMILIES", "PAGE", "Family", "by_id", "of_form"]

PAGE = "docs/emulator-faults.md"


@cache
def _by_form() -> dict[tuple[str, str], Family]:
    return {form: family for family in FAMILIES for form in family.forms}


def of_form(mode: str, code: bytes) -> Family | None:
    """The family of a form of the atlas, in the atlas' own bytes; of riscv64, the word's, big end first."""
    return _by_form().get((mode, code.hex() if mode == "riscv64" else code.hex(" ")))


def by_id(name: str) -> Family | None:
    """The family of that id."""
    return next((family for family in FAMILIES if family.id == name), None)
