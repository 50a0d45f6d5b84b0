"""``kvmwhy atlas --faults``: what KVM carries out wrongly, by cause, and tests that fail while it does."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Literal

from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import BAD_INPUT, DONE, NOTHING
from kvmwhy.emulator.faults import FAMILIES, Family, by_id
from kvmwhy.emulator.faults.history import since

if TYPE_CHECKING:
    from kvmwhy.outputs import EmulatorFault


def run(wanted: str, form: Literal["c", "selftest"] | None, *, as_json: bool) -> int:
    """List them, show one, or write its test; return the exit status."""
    from kvmwhy.render.fault_page import listing, page

    if form and (as_json or not wanted):
        complain("--export writes one test: it takes an id, and no --json")
        return BAD_INPUT
    if not wanted:
        if as_json:
            _emit(*FAMILIES)
        else:
            show(listing())
        return DONE
    family = by_id(wanted.strip().casefold())
    if family is None:
        near = difflib.get_close_matches(wanted, [known.id for known in FAMILIES], 1)
        complain(f"no fault {wanted!r}; {f'did you mean {near[0]}?' if near else '`kvmwhy atlas --faults` lists them'}")
        return NOTHING
    if form:
        return _export(family, form)
    if as_json:
        _emit(family)
    else:
        show(page(family), paged=True)
    return DONE


def _export(family: Family, form: Literal["c", "selftest"]) -> int:
    from kvmwhy.reproduce.export import ExportError
    from kvmwhy.reproduce.export.fault_test import write

    try:
        sys.stdout.write(write(family, form))
    except ExportError as error:
        complain(str(error))
        return BAD_INPUT
    return DONE


def _emit(*families: Family) -> None:
    import msgspec

    for family in families:
        sys.stdout.write(msgspec.json.encode(_plain(family)).decode() + "\n")


def _plain(family: Family) -> EmulatorFault:
    from kvmwhy.outputs import EmulatorFault

    return EmulatorFault(
        id=family.id,
        arch=family.arch,
        title=family.title,
        manual=family.manual,
        does=family.does,
        place=family.place,
        why=family.why,
        since=since(family),
        harm=family.harm,
        known=family.known,
        suggestion=family.suggestion,
        never_ends=family.never_ends,
        forms=[f"{mode} {code}" for mode, code in family.forms],
    )
