"""``kvmwhy atlas --arch arm64`` and ``riscv64``: what KVM makes of an access where there is no memory, as measured.

KVM of arm64 decodes no instruction: the CPU describes the access, or it is lost. Where nothing was measured, Arm's
manual decides (arch/arm64/load_store). KVM of riscv64 decodes some loads and stores itself.
"""

from __future__ import annotations

import platform
import sys
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from kvmwhy.abi.uname import Series, arch_of, series_of
from kvmwhy.arch.arm64.assembly import form_of as form_of_text
from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.cli.instruction_word import word_of
from kvmwhy.cli.output import complain, show
from kvmwhy.cli.status import BAD_INPUT, DONE, NOTHING
from kvmwhy.emulator import trap_wording
from kvmwhy.emulator.faults import Family, of_form
from kvmwhy.emulator.packed import AtlasError
from kvmwhy.emulator.trap_atlas import (
    Outcome,
    Row,
    TrapAtlas,
    is_undefined,
    of_columns,
    of_series,
    trap_atlas,
)
from kvmwhy.emulator.trap_file import Column, Trap
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

if TYPE_CHECKING:
    from kvmwhy.outputs import TrappedForm

_MANY = 8  # forms that are shown whole
_WITH = "the CPU describes its access to KVM: outside RAM it becomes KVM_EXIT_MMIO"
_WITHOUT = "the CPU does not describe its access to KVM: outside RAM KVM_RUN fails with ENOSYS"
_NEVER = "a prefetch is never trapped"
_STYLE = {"mmio": "good", "error": "bad", "nisv": "bad", "timeout": "bad", "endless": "bad"}
_SOURCE = "Arm ARM DDI 0487, ISS encoding for an exception from a Data Abort"


class TrapOptions(NamedTuple):
    arch: str
    text: str | None = None
    code: str | None = None
    kernel: str | None = None
    diff: tuple[str, str] | None = None
    as_json: bool = False
    html: str | None = None


class Subject(NamedTuple):
    """One instruction that was asked about: its row, if it was measured, and of arm64 what the manual says."""

    name: str
    row: Row | None
    manual: LoadStore | str | None


def run(wish: TrapOptions) -> int:
    """Show it; return the exit status."""
    try:
        atlas = trap_atlas(wish.arch)
    except (OSError, AtlasError) as error:
        complain(f"the atlas cannot be read: {error}")
        return BAD_INPUT
    if wish.kernel and series_of(wish.kernel) is None:
        complain(f"{wish.kernel!r} is no release of a kernel, such as 6.12")
        return BAD_INPUT
    if wish.html is not None:
        from kvmwhy.cli.atlas_page import Here, write_traps

        return write_traps(atlas, wish.html, Here(_here(wish), wish.kernel is not None))
    if wish.diff:
        return _diff(atlas, wish, *wish.diff)
    if wish.code is not None:
        return _word(atlas, wish, wish.code)
    if wish.text is not None:
        return _text(atlas, wish, wish.text)
    return _overview(atlas, wish)


def _word(atlas: TrapAtlas, wish: TrapOptions, code: str) -> int:
    try:
        word = word_of(code, wish.arch)
    except ValueError as error:
        complain(str(error))
        return BAD_INPUT
    manual = load_store(word) if wish.arch == "arm64" else None
    row = atlas.look_up(word)
    name = trap_wording.digits(word, wish.arch)
    if row is None and manual is None:
        complain(f"{name} is no load, store or cache maintenance that is known here")
        return NOTHING
    return _show(wish, [Subject(name, row, manual)])


def _text(atlas: TrapAtlas, wish: TrapOptions, text: str) -> int:
    manual = form_of_text(text) if wish.arch == "arm64" else None
    subjects = [Subject(row.text, row, load_store(row.word) if manual else None) for row in atlas.find(text)]
    if not subjects and manual is not None:
        subjects = [Subject(text, None, manual)]
    if not subjects:
        complain(f"{text!r} is no load, store or cache maintenance that is known here (GNU's syntax)")
        return NOTHING
    if len(subjects) == 1:
        subjects = [subjects[0]._replace(name=text)]
    return _show(wish, subjects)


def _show(wish: TrapOptions, subjects: list[Subject]) -> int:
    lines: list[Line] = []
    for number, subject in enumerate(subjects):
        if wish.as_json:
            _emit(_plain(subject, wish))
        elif number < _MANY:
            lines += [*([Line()] if number else []), *_page(subject, wish)]
    if not wish.as_json:
        if len(subjects) > _MANY:
            lines.append(
                Line(f"and {len(subjects) - _MANY} more forms: say more of the operands, or use --json", "dim")
            )
        show(lines)
    return DONE


def _emit(value: Any) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


# -- one instruction -----------------------------------------------------------------------------------


def _headline(subject: Subject) -> str:
    row, manual = subject.row, subject.manual
    answers = trap_wording.answers(row) if row else []
    if row and answers and not is_undefined(answers[0][1], row.arch):
        says = [trap_wording.say(trap, row.arch) for _, trap in answers]
        if len(says) == 1:
            return f"{says[0]}, on every measured kernel"
        where = [trap_wording.series(columns) for columns, _ in answers]
        return "; ".join(f"{say} on {on}" for say, on in zip(says, where, strict=True))
    if isinstance(manual, LoadStore):
        measured = " (by the manual: no CPU that was measured has it)" if row else " (by the manual: not measured)"
        return (_NEVER if manual.described is None else _WITH if manual.described else _WITHOUT) + measured
    if row and answers:
        return trap_wording.say(answers[0][1], row.arch)
    return "no instruction that Armv9.4 defines"


def _page(subject: Subject, wish: TrapOptions) -> list[Line]:
    row, manual = subject.row, subject.manual
    lines = [Line(f"{safe(subject.name)}: {_headline(subject)}", "answer")]
    if row and wish.kernel:
        lines.append(Line(_on_kernel(row, wish.kernel), indent=2))
    for span in trap_wording.spans(row) if row else ():
        label = "in every setup" if row and span.setups == row.setups else trap_wording.setup_names(span.setups)
        style = _STYLE.get(span.trap.kind, "plain")
        lines.append(Line(f"{trap_wording.series(span.columns)}: {label}", "dim", indent=2))
        lines.append(Line(trap_wording.say(span.trap, wish.arch), style, indent=6))  # type: ignore[arg-type]
    if isinstance(manual, LoadStore):
        lines.append(Line(f"{manual.form}; {_manual(manual)}", "plain", "The manual: ", 2))
        if manual.described is False:
            advice = "single loads and stores of one general-purpose register, without write-back"
            lines.append(Line(f"access the device by {advice}", "plain", "Instead:    ", 2))
            lines.append(Line("kvmwhy cause arm64-no-syndrome", "plain", "More:       ", 2, whole=True))
    if row:
        how = "the same word" if row.exact else f"as {trap_wording.digits(row.word, row.arch)}"
        lines.append(Line(f"{how} ({row.text or 'no name'}), under QEMU's TCG, no silicon", "dim", "Measured:   ", 2))
        if family := _fault(row):
            from kvmwhy.render.fault_page import pointer

            lines.append(pointer(family))
    if manual is not None:
        lines.append(Line(_SOURCE, "dim", "Source:     ", 2))
    return lines


def _fault(row: Row) -> Family | None:
    """Of riscv64, where KVM refuses what it should carry out."""
    return of_form(row.arch, bytes.fromhex(trap_wording.digits(row.word, row.arch)))


def _manual(manual: LoadStore) -> str:
    match manual.described:
        case None:
            return "never trapped"
        case True:
            return "its access comes with a syndrome"
        case _:
            return "its access comes without a syndrome"


def _on_kernel(row: Row, release: str) -> str:
    version = series_of(release)
    setup = row.setups[0]
    if version is not None and (here := of_series(row, setup, version)):
        on = {column.release: None for outcome in here for column in outcome.columns}
        return f"Measured on Linux {', '.join(on)}: {_says(here, row.arch)}."
    measured = {column.series for column, _ in row.in_setup(setup)}
    below = [series for series in measured if version and series < version]
    above = [series for series in measured if version and series > version]
    near = ([max(below)] if below else []) + ([min(above)] if above else [])
    says = [f"{major}.{minor} ({_says(of_series(row, setup, (major, minor)), row.arch)})" for major, minor in near]
    return f"Not measured on this kernel; the nearest: {' and '.join(says)}."


def _says(outcomes: list[Outcome], arch: str) -> str:
    """One clause; where emulators disagree, one of each."""
    if len(outcomes) == 1:
        return trap_wording.say(outcomes[0].trap, arch)
    return "; ".join(
        f"{trap_wording.say(trap, arch)} on {', '.join(dict.fromkeys(column.emulator for column in columns))}"
        for columns, trap in outcomes
    )


def _plain(subject: Subject, wish: TrapOptions) -> TrappedForm:
    from kvmwhy.outputs import MeasuredTrap, TrappedForm

    row, manual = subject.row, subject.manual
    described = manual if isinstance(manual, LoadStore) else None
    return TrappedForm(
        arch=wish.arch,  # type: ignore[arg-type]
        instruction=safe(subject.name),
        form=described.form if described else "undefined" if manual == "undefined" else None,
        syndrome=described.described if described else None,
        text=row.text if row else None,
        measured=trap_wording.digits(row.word, row.arch) if row else None,
        exact=row.exact if row else False,
        fault=family.id if row and (family := _fault(row)) else None,
        kernels=[
            MeasuredTrap(release=column.release, bench=column.bench, setup=setup, **_verdict(trap, row.arch))
            for setup in row.setups
            for column, trap in row.in_setup(setup)
            if wish.kernel is None or column.series == series_of(wish.kernel)
        ]
        if row
        else [],
    )


def _verdict(trap: Trap, arch: str) -> dict[str, Any]:
    return {
        "verdict": "undefined" if is_undefined(trap, arch) else trap.kind,
        "accesses": trap.accesses,
        "code": trap.code,
        "offset": trap.offset,
        "says": trap_wording.say(trap, arch),
    }


def _here(wish: TrapOptions) -> Series | None:
    """The kernel that was asked for, or this host's if it is of that architecture."""
    if wish.kernel:
        return series_of(wish.kernel)
    host = platform.uname()  # os.uname is not on Windows
    return series_of(host.release) if host.system == "Linux" and arch_of(host.machine) == wish.arch else None


# -- all of them ---------------------------------------------------------------------------------------


def _columns(columns: tuple[Column, ...], name: str) -> tuple[Column, ...]:
    """Those that a person means by 6.1, by ``7.3 on QEMU 10.0``, or by a whole release."""
    version: Series | None = None if " " in name else series_of(name)
    exact = tuple(column for column in columns if name in {column.name, column.release})
    return exact or tuple(column for column in columns if column.series == version)


def _on_equal_machines(sides: list[tuple[Column, ...]]) -> list[tuple[Column, ...]]:
    """Of both those on emulators that both were asked on, if there are any: other CPUs are no other kernels."""
    common = set.intersection(*({column.emulator for column in side} for side in sides))
    return [tuple(column for column in side if column.emulator in common) for side in sides] if common else sides


def _diff(atlas: TrapAtlas, wish: TrapOptions, old: str, new: str) -> int:
    sides = []
    for name in (old, new):
        if not (side := _columns(atlas.head.columns, name)):
            known = ", ".join(column.name for column in atlas.head.columns)
            complain(f"{name!r} was not measured; there are {known}")
            return BAD_INPUT
        sides.append(side)
    sides = _on_equal_machines(sides)
    lines, count = [], 0
    for row in atlas:
        for setup in row.setups:
            before, after = (of_columns(row, setup, side) for side in sides)
            # Where emulators disagree on one of the kernels, what both have in common is no difference of kernels.
            if not before or not after or {trap for _, trap in before} & {trap for _, trap in after}:
                continue
            count += 1
            if wish.as_json:
                _emit_difference(row, setup, before, after)
            else:
                label = f"{trap_wording.digits(row.word, row.arch)}  {row.text:32}  {setup:16}  "
                lines.append(Line(f"{_says(before, row.arch)} → {_says(after, row.arch)}", label=label))
    if not wish.as_json:
        first, second = (trap_wording.series(side) for side in sides)
        total = len(atlas) * len(atlas.head.setups)
        show([Line(f"{count} of {total} outcomes differ between {first} and {second}", "answer"), *lines])
    return DONE if count else NOTHING


def _emit_difference(row: Row, setup: str, before: list[Outcome], after: list[Outcome]) -> None:
    """An object each, where emulators disagree."""
    from kvmwhy.outputs import TrapDifference, TrapPart

    for old, new in product(before, after):
        difference = TrapDifference(
            text=row.text,
            measured=trap_wording.digits(row.word, row.arch),
            setup=setup,
            from_=TrapPart(**_verdict(old.trap, row.arch)),
            to=TrapPart(**_verdict(new.trap, row.arch)),
        )
        _emit(difference)


def _overview(atlas: TrapAtlas, wish: TrapOptions) -> int:
    from collections import Counter

    import msgspec

    columns = atlas.head.columns
    if wish.as_json:
        for column in columns:
            _emit(msgspec.to_builtins(column))
        return DONE
    setups = atlas.head.setups
    lines = [Line(f"{len(atlas)} forms in {len(setups)} setups on {len(columns)} kernels", "answer")]
    for number, column in enumerate(columns):
        traps = [row.traps[number * len(setups)] for row in atlas]
        kinds = Counter(_verdict(trap, atlas.head.arch)["verdict"] for trap in traps if trap)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        text = f"{column.release}, {column.date}, {trap_wording.setup_names(setups[:1])}: {counts}"
        lines.append(Line(text, label=f"{column.name:20} ", indent=2))
    show(lines)
    return DONE
