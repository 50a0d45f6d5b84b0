"""``kvmwhy cause``: the catalogue, and the pages on mechanisms, origins and numbers."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import DONE, NOTHING
from kvmwhy.diagnosis import catalogue
from kvmwhy.diagnosis.cause import FAMILIES, Cause
from kvmwhy.diagnosis.knowledge import all_bugs
from kvmwhy.diagnosis.knowledge.mechanism_of import mechanisms_of
from kvmwhy.diagnosis.knowledge.pages import MECHANISMS, NUMBERS, ORIGINS, PAGES, Page, page_of
from kvmwhy.render.page import Line
from kvmwhy.render.text import cause_page, page

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kvmwhy.emulator.faults import Family

_WIDTH: Final = 28

_HEADS: Final = {"mechanism": "What happened", "origin": "Whose doing it was", "number": "Error lines"}

_SEVERAL: Final = "of several mechanisms"


class Entry(NamedTuple):
    """One line of the catalogue."""

    id: str
    title: str
    head: str


def run(wanted: str, *, by: str | None, as_json: bool) -> int:
    """List everything, show one page, or list what has these words; return the exit status."""
    causes = catalogue()
    if not wanted:
        entries = _all() if by is None else _grouped(by)
        _print(entries, as_json=as_json)
        return DONE
    known = wanted.strip().casefold()
    if (found := page_of(wanted)) is not None:
        more = [entry for entry in _search(known) if entry.id != found.id] if known != found.id else []
        if as_json:
            _print([_of_page(found), *more], as_json=True)
        else:
            show([*page(found), *([Line(), *_lines(more)] if more else [])], paged=True)
        return DONE
    if known in causes:
        _print([_of_cause(causes[known])], as_json=True) if as_json else show(cause_page(causes[known]))
        return DONE
    if (family := _fault(known)) is not None:
        from kvmwhy.render.fault_page import page as fault_page

        _print([_of_fault(family)], as_json=True) if as_json else show(fault_page(family), paged=True)
        return DONE
    if (syndrome := _syndrome(wanted)) is not None and not as_json:
        show(syndrome)
        return DONE
    if fitting := _search(known):
        _print(fitting, as_json=as_json)
        return DONE
    near = difflib.get_close_matches(known, _ids(), 1)
    hint = f"; did you mean {near[0]}?" if near else "; `kvmwhy cause` lists them"
    complain(f"no entry {wanted!r}, and none with these words{hint}")
    return NOTHING


def completions(incomplete: str) -> list[CompletionItem]:
    """Ids that begin so, with their titles, for the shell."""
    from click.shell_completion import CompletionItem

    return [
        CompletionItem(entry.id, help=entry.title) for entry in (*_all(), *_faults()) if entry.id.startswith(incomplete)
    ]


def _ids() -> list[str]:
    return [entry.id for entry in (*_all(), *_faults())]


def _fault(wanted: str) -> Family | None:
    """A fault of KVM's emulation has a page as well; it is not listed, as no failure comes of it."""
    from kvmwhy.emulator.faults import by_id

    return by_id(wanted)


def _faults() -> list[Entry]:
    from kvmwhy.emulator.faults import FAMILIES as FAULTS

    return list(map(_of_fault, FAULTS))


def _of_fault(family: Family) -> Entry:
    return Entry(family.id, family.title, "Faults of KVM")


def _all() -> list[Entry]:
    """Pages by kind, then causes by family."""
    causes = sorted(catalogue().values(), key=lambda cause: FAMILIES.index(cause.family))
    return [*map(_of_page, (*MECHANISMS, *ORIGINS, *NUMBERS)), *map(_of_cause, causes)]


def _of_page(entry: Page) -> Entry:
    return Entry(entry.id, entry.title, _HEADS[entry.kind])


def _of_cause(cause: Cause) -> Entry:
    return Entry(cause.id, cause.title, f"Causes of the family {cause.family}")


def _grouped(by: str) -> list[Entry]:
    """Causes and known bugs under a heading for each family, mechanism or origin."""
    bugs = {bug.id: bug for bug in all_bugs()}
    causes = catalogue().values()
    if by == "family":
        return [entry for entry in _all() if entry.id in catalogue()]
    if by == "mechanism":
        entries = [
            Entry(cause.id, cause.title, ", ".join(mechanisms_of(cause, bugs.get(cause.id))) or _SEVERAL)
            for cause in causes
        ]
    else:
        # What the evidence itself shows has no origin of its own: each failure's evidence is weighed for that.
        whose = {page.id: page.title for page in ORIGINS}
        depends = "depends on the evidence"
        heads = {bug.id: f"{bug.origin}: {whose[bug.origin]}" for bug in bugs.values()}
        entries = [Entry(cause.id, cause.title, heads.get(cause.id, depends)) for cause in causes]
    return sorted(entries, key=lambda entry: entry.head)


def _search(wanted: str) -> list[Entry]:
    """Entries with all words in id, title or family; if there are none, those that have them in their text."""
    words = wanted.split()
    texts = {entry.id: _text(entry) for entry in PAGES} | {cause.id: _text(cause) for cause in catalogue().values()}
    short = [
        entry for entry in _all() if all(word in f"{entry.id} {entry.title} {entry.head}".casefold() for word in words)
    ]
    return short or [entry for entry in _all() if all(word in texts[entry.id] for word in words)]


def _text(entry: Page | Cause) -> str:
    return f"{entry.id} {entry.title} {entry.what} {entry.recognise}".casefold()


def _print(entries: Iterable[Entry], *, as_json: bool) -> None:
    if as_json:
        for entry in entries:
            sys.stdout.buffer.write(_json(entry.id) + b"\n")
        return
    show(_lines(entries), paged=True)


def _lines(entries: Iterable[Entry]) -> list[Line]:
    """A line each, under a heading for each group."""
    lines: list[Line] = []
    last = None
    for entry in entries:
        if entry.head != last:
            lines += [Line()] if lines else []
            lines.append(Line(style="head", label=entry.head, label_style="head"))
            last = entry.head
        lines.append(Line(entry.title, "plain", f"{entry.id:<{_WIDTH}} ", 2))
    return lines


def _json(entry_id: str) -> bytes:
    import msgspec

    from kvmwhy.contract import CatalogueEntry, FixPart
    from kvmwhy.emulator.faults import PAGE

    entry = next((page for page in PAGES if page.id == entry_id), None)
    if entry is not None:
        return msgspec.json.encode(
            CatalogueEntry(
                id=entry.id,
                kind=entry.kind,
                title=entry.title,
                what=entry.what,
                recognise=entry.recognise,
                fix=FixPart(**entry.fix._asdict()),
                see=list(entry.see),
            )
        )
    if (family := _fault(entry_id)) is not None:
        return msgspec.json.encode(
            CatalogueEntry(
                id=family.id,
                kind="fault",
                title=family.title,
                what=f"{family.does} {family.why}",
                recognise=family.manual,
                fix=FixPart(host=family.suggestion),
                references=[family.place, f"{PAGE}#{family.id}"],
            )
        )
    cause = catalogue()[entry_id]
    bug = next((bug for bug in all_bugs() if bug.id == entry_id), None)
    return msgspec.json.encode(
        CatalogueEntry(
            id=cause.id,
            kind="cause" if bug is None else "bug",
            title=cause.title,
            family=cause.family,
            origin=None if bug is None else bug.origin,
            what=cause.what,
            recognise=cause.recognise,
            fix=FixPart(**cause.fix._asdict()),
            references=list(cause.references),
        )
    )


def _syndrome(wanted: str) -> list[Line] | None:
    """A number that is nothing else, as Arm's ESR: its exception class is known, and IL says 32-bit instruction."""
    from kvmwhy.abi.arm64 import esr

    if not re.fullmatch(r"0x[0-9a-fA-F]{7,16}", wanted) or not (number := int(wanted, 16)) & esr.IL:
        return None
    if esr.exception_class(number) not in esr.CLASSES or number >> 37:
        return None
    lines = [Line(f"As ESR_EL2 of arm64: {esr.describe(number)}.", "answer")]
    lines += [Line(text, "plain", "- ", 2) for text in esr.sentences(number)]
    if esr.is_undescribed_access(number):
        lines += [Line(), Line("kvmwhy cause arm64-no-syndrome", "plain", "What to do: ", 2, whole=True)]
    return lines
