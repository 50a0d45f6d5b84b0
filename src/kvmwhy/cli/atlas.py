"""``kvmwhy atlas``: what KVM's emulator makes of an instruction, kernel by kernel, as measured."""

from __future__ import annotations

import platform
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from kvmwhy.abi.uname import series_of
from kvmwhy.arch.x86.mode import Bitness, ModeName
from kvmwhy.arch.x86.mode import Mode as CpuMode
from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import BAD_INPUT, DONE, NOTHING
from kvmwhy.emulator import wording
from kvmwhy.emulator.atlas import Atlas, AtlasError, Kernel, Row, Version, atlas
from kvmwhy.emulator.encoding_key import MODES, Mode
from kvmwhy.emulator.faults import of_form
from kvmwhy.emulator.measured import Measured
from kvmwhy.emulator.verdict import by_table
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

if TYPE_CHECKING:
    from kvmwhy.outputs import AtlasForm

_BITNESS: dict[Mode, Bitness] = {"real16": 16, "prot16": 16, "prot32": 32, "long64": 64}
_SAID = {"real16": "real mode", "prot16": "16-bit code", "prot32": "32-bit code", "long64": "64-bit mode"}
_STYLE = {"emulated": "good", "fails": "bad", "no-exit": "bad", "endless": "bad"}
_ADDRESS_16 = re.compile(r"\[[^\]]{0,40}\b(?:bx|bp|si|di)\b", re.IGNORECASE)


class AtlasOptions(NamedTuple):
    text: str | None = None
    code: str | None = None
    mode: Mode = "long64"
    kernel: str | None = None
    diff: tuple[str, str] | None = None
    since: bool = False
    as_json: bool = False
    html: str | None = None


def run(wish: AtlasOptions) -> int:
    """Show it; return the exit status."""
    try:
        known = atlas()
    except (OSError, AtlasError) as error:
        complain(f"the atlas cannot be read: {error}")
        return BAD_INPUT
    if wish.kernel and series_of(wish.kernel) is None:
        complain(f"{wish.kernel!r} is no release of a kernel, such as 6.18")
        return BAD_INPUT
    if wish.html is not None:
        from kvmwhy.cli.atlas_page import Here, write

        return write(known, wish.html, Here(_here(wish), wish.kernel is not None))
    if wish.diff:
        return _diff(known, wish, *wish.diff)
    if wish.code is not None:
        return _bytes(known, wish, wish.code)
    if wish.text is not None:
        return _text(known, wish, wish.text)
    return _overview(known, wish)


def _emit(value: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _bytes(known: Atlas, wish: AtlasOptions, text: str) -> int:
    try:
        code = bytes.fromhex(text.replace("0x", "").replace(",", " "))
    except ValueError:
        complain(f"--bytes takes hex, such as 660f382a07, not {text!r}")
        return BAD_INPUT
    row = known.look_up(code, wish.mode)
    if row is None:
        complain(f"no form like {code[:15].hex(' ') or 'no bytes'} was measured in {_SAID[wish.mode]}")
        return NOTHING
    from kvmwhy.probe.encodings import text_of

    return _show(wish, [(row, text_of(code[:15].ljust(15, b"\xf4"), wish.mode))])


def _text(known: Atlas, wish: AtlasOptions, text: str) -> int:
    from kvmwhy.probe.lookup import find

    found = find(known, text, wish.mode)
    if not found:
        complain(f"no measured form looks like {text!r} in {_SAID[wish.mode]}{_instead(known, text, wish.mode)}")
        return NOTHING
    if wish.mode == "long64" and _ADDRESS_16.search(text):
        complain("64-bit code has no address such as [bx]: these are forms with operands of the same kinds; see --mode")
    return _show(wish, [(one.row, one.text) for one in found])


def _instead(known: Atlas, text: str, mode: Mode) -> str:
    """What it may have been meant to be; else how a form is written."""
    from kvmwhy.probe.lookup import find, near

    for other in (other for other in MODES if other != mode):
        if find(known, text, other):
            return f"; it is known in {_SAID[other]}: --mode {other}"
    if names := near(known, text, mode):
        return f"; did you mean {' or '.join(names)}?"
    return " (as in: mov eax, [rbx]; or: movl (%rbx), %eax)"


def _here(wish: AtlasOptions) -> Version | None:
    """The kernel that stands first: the one that was asked for, or this host's where it has KVM for x86."""
    if wish.kernel:
        return series_of(wish.kernel)
    host = platform.uname()  # os.uname is not on Windows
    return series_of(host.release) if (host.system, host.machine) == ("Linux", "x86_64") else None


def _show(wish: AtlasOptions, rows: list[tuple[Row, str]]) -> int:
    if wish.as_json:
        for row, text in rows:
            _emit(_plain(row, text))
        return DONE
    if wish.since:
        show([Line(wording.since(row), label=f"{safe(text)}: ") for row, text in rows])
        return DONE
    from kvmwhy.render.atlas_matrix import matrix

    rows = _told_apart(rows)
    lines = matrix(rows, here=_here(wish))
    if len(rows) == 1:
        ((row, text),) = rows
        lines = [*_page(row, text, wish), Line(), *lines]
    elif faults := {family.id: family for row, _ in rows if (family := of_form(row.mode, row.code))}:
        from kvmwhy.render.fault_page import pointer

        lines += [Line(), *map(pointer, faults.values())]
    show(lines, paged=True)
    return DONE


def _told_apart(rows: list[tuple[Row, str]]) -> list[tuple[Row, str]]:
    """Of forms that look alike and fare alike where both were measured, the one that was measured on more kernels."""
    from kvmwhy.probe.lookup import shape_of

    kept: dict[object, list[tuple[Row, str]]] = {}
    for row, text in sorted(rows, key=lambda entry: entry[0].verdicts.count(None)):
        alike = kept.setdefault(shape_of(text), [])
        if not any(_fare_alike(row, other) for other, _ in alike):
            alike.append((row, text))
    chosen = {id(row) for held in kept.values() for row, _ in held}
    return [entry for entry in rows if id(entry[0]) in chosen]


def _fare_alike(row: Row, other: Row) -> bool:
    return all(a is None or b is None or a.same_outcome(b) for a, b in zip(row.verdicts, other.verdicts, strict=True))


def _page(row: Row, text: str, wish: AtlasOptions) -> list[Line]:
    lines = [Line(f"{safe(text)}: {_headline(row)}", "answer")]
    if wish.kernel:
        version = series_of(wish.kernel)
        outcome = wording.say_answer(row.in_kernel(version)) if version else ""
        lines.append(Line(outcome or f"Nothing is known of Linux {safe(wish.kernel)}.", indent=2))
    for vendor, label in (("svm", "kvm-amd"), ("vmx", "kvm-intel")):
        for span in wording.spans(row, vendor):
            style = "bad" if span.verdict.wrong else _STYLE.get(span.verdict.kind, "plain")
            name = f"{label} {wording.series(span.kernels)}  "
            lines.append(Line(wording.say(span.verdict), style, name, 2))  # type: ignore[arg-type]
    if dated := _dated(row):
        lines.append(Line(dated, "dim", "By the source: ", 2))
    how = "the same bytes" if row.exact else f"as {row.code.hex(' ')}"
    left = f", without {row.ignored}" if row.ignored else ""
    lines.append(Line(f"{how}{left}, in {_SAID[row.mode]}", "dim", "Measured: ", 2))
    if family := of_form(row.mode, row.code):
        from kvmwhy.render.fault_page import pointer

        lines.append(pointer(family))
    return lines


def _headline(row: Row) -> str:
    """The newest measured kernel's answer, and since when."""
    found = wording.spans(row) or wording.spans(row, "vmx")
    if not found:
        return "not measured"
    newest = found[-1]
    if len(found) == 1:
        return f"{wording.say(newest.verdict)}, on every measured kernel"
    before = found[-2]
    change = f"changed between {wording.series(before.kernels[-1:])} and {wording.series(newest.kernels[:1])}"
    return f"{wording.say(newest.verdict)} in {wording.series(newest.kernels)}; {change}"


def _dated(row: Row) -> str:
    """What the kernel's source says, where measured kernels differ: when it changed."""
    found = wording.spans(row)
    if len(found) < 2:
        return ""
    mode: ModeName = row.mode
    judged = by_table(row.code, mode=CpuMode(mode, _BITNESS[row.mode], True, ""), version=None)
    return judged.sentence if judged.since else judged.caveat or ""


def _plain(row: Row, text: str) -> AtlasForm:
    from kvmwhy.outputs import AtlasForm, MeasuredPart

    return AtlasForm(
        mode=row.mode,
        text=text,
        measured=row.code.hex(" "),
        exact=row.exact,
        ignored=row.ignored,
        technique=row.technique,
        defined=row.defined,
        since=wording.since(row),
        fault=family.id if (family := of_form(row.mode, row.code)) else None,
        kernels=[
            MeasuredPart(
                vendor=kernel.vendor, release=kernel.release, module_args=kernel.module_args, **_verdict(measured)
            )
            for kernel, measured in zip(row.kernels, row.verdicts, strict=True)
            if measured is not None
        ],
    )


def _verdict(measured: Measured) -> dict[str, Any]:
    return {
        "verdict": measured.kind,
        "code": measured.code,
        "ndata": measured.ndata,
        "accesses": measured.accesses,
        "compared": measured.compared,
        "wrong": list(measured.wrong),
        "says": wording.say(measured),
    }


def _column(known: Atlas, name: str) -> int | None:
    """The column that a person means by 6.1, by ``vmx 6.1 ept=0``, or by a whole release."""
    names = [kernel.name for kernel in known.kernels]
    if name in names:
        return names.index(name)
    version = series_of(name)
    for number, kernel in enumerate(known.kernels):
        if kernel.release == name or (kernel.name == f"{version[0]}.{version[1]}" if version else False):
            return number
    return None


def _diff(known: Atlas, wish: AtlasOptions, old: str, new: str) -> int:
    from kvmwhy.probe.encodings import text_of

    columns = []
    for name in (old, new):
        if (number := _column(known, name)) is None:
            there = ", ".join(kernel.name for kernel in known.kernels)
            complain(f"{name!r} was not measured; there are {there}")
            return BAD_INPUT
        columns.append(number)
    first, second = columns
    lines, count = [], 0
    for row in known:
        before, after = row.verdicts[first], row.verdicts[second]
        if before is None or after is None or before.same_outcome(after):
            continue
        count += 1
        text = text_of(row.code.ljust(15, b"\xf4"), row.mode)
        if wish.as_json:
            from kvmwhy.outputs import AtlasDifference, VerdictPart

            difference = AtlasDifference(
                mode=row.mode,
                text=text,
                measured=row.code.hex(" "),
                from_=VerdictPart(**_verdict(before)),
                to=VerdictPart(**_verdict(after)),
            )
            _emit(difference)
        else:
            label = f"{row.mode:6}  {row.code.hex(' '):24}  {text:32}  "
            lines.append(Line(f"{wording.short(before)} → {wording.short(after)}", label=label))
    if not wish.as_json:
        head = (
            f"{count} of {len(known)} forms differ between {known.kernels[first].name} and {known.kernels[second].name}"
        )
        show([Line(head, "answer"), *lines])
    return DONE if count else NOTHING


def _overview(known: Atlas, wish: AtlasOptions) -> int:
    if wish.as_json:
        import msgspec

        for kernel in known.kernels:
            _emit(msgspec.to_builtins(kernel))
        return DONE
    lines = [Line(f"{len(known)} forms on {len(known.kernels)} kernels", "answer")]
    for number, kernel in enumerate(known.kernels):
        lines.append(Line(_summary(known, number, kernel), label=f"{kernel.name:24} ", indent=2))
    show(lines)
    return DONE


def _summary(known: Atlas, number: int, kernel: Kernel) -> str:
    from collections import Counter

    kinds: Counter[str] = Counter()
    wrong = 0
    for row in known:
        if (one := row.verdicts[number]) is not None:
            kinds[one.kind] += 1
            wrong += one.kind == "emulated" and one.compared == "wrong"
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return f"{kernel.release}, {kernel.date}: {counts}; {wrong} carried out unlike a CPU"
