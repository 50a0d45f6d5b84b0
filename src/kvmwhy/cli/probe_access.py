"""``kvmwhy probe`` on arm64 and riscv64: what this host's KVM makes of each class of access outside memory."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from kvmwhy.abi.error_numbers import NAMES
from kvmwhy.abi.kvm_run import exit_name
from kvmwhy.abi.uname import Arch, series_of
from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.arch.riscv64.instruction import kind_of
from kvmwhy.cli.instruction_word import code_of, word_of
from kvmwhy.cli.output import complain, require_writable, show
from kvmwhy.cli.status import BAD_INPUT, DONE, NOT_PERMITTED, NOTHING
from kvmwhy.emulator.trap_atlas import Row, is_undefined, of_columns, of_series, trap_atlas
from kvmwhy.emulator.trap_file import Trap
from kvmwhy.emulator.trap_wording import VMMS
from kvmwhy.machine.access import Setup, ask, in_words, kind, points_at, setups
from kvmwhy.machine.bare_guest import Stopped
from kvmwhy.machine.errors import MachineError, NoKvmError, NotPermittedError
from kvmwhy.probe.access_classes import CLASSES, AccessClass
from kvmwhy.render.page import Line, Style
from kvmwhy.render.safe import safe

if TYPE_CHECKING:
    from kvmwhy.outputs import ProbedAccess

_ADDRESS: Final = 0x0D00_0000
_LACKS: Final = "this CPU does not have the instruction, or KVM hides it from the guest"
_MANY: Final = 40
# What the atlas calls the set-ups of a guest without address translation (lab/trap_atlas: SETUPS).
_ATLAS_SETUPS: Final[dict[Arch, dict[Setup, str]]] = {
    "arm64": {"plain": "mmu-off", "nisv": "mmu-off-nisv"},
    "riscv64": {"plain": "bare"},
}


class Asked(NamedTuple):
    """One form, and what became of it under each set-up.

    ``known``: by the atlas, as access.kind; several where its machines disagree.
    """

    arch: Arch
    form: AccessClass
    answers: tuple[tuple[Setup, Stopped], ...]
    known: dict[Setup, tuple[str, ...]]

    @property
    def lacks(self) -> bool:
        """The CPU, the instruction: that says nothing of KVM."""
        return any(_is_undefined(self.arch, stopped) for _, stopped in self.answers)

    @property
    def differs(self) -> bool:
        """From what the kernel's source and the architecture say."""
        return not self.lacks and bool(self.form.expected) and kind(self.answers[0][1]) not in self.form.expected

    @property
    def differs_from_atlas(self) -> bool:
        return not self.lacks and any(
            setup in self.known and kind(stopped) not in self.known[setup] for setup, stopped in self.answers
        )


def _is_undefined(arch: Arch, stopped: Stopped) -> bool:
    if stopped.trap is None:
        return False
    # Kernels before 6.2 give ESR_EL1 the sign of its bit 31.
    number = stopped.trap.cause & 0xFFFF_FFFF if arch == "arm64" else stopped.trap.cause
    return is_undefined(Trap("exception", "", number), arch)


def run(arch: Arch, *, text: str | None, code: str | None, everything: bool, out: str | None, as_json: bool) -> int:
    """Probe; return the exit status."""
    try:
        forms = _forms(arch, text, code, everything=everything)
    except ValueError as error:
        complain(str(error))
        return BAD_INPUT
    if not forms:
        complain(f"{text!r} is no class of access that is known here; --bytes takes any instruction")
        return NOTHING
    try:
        if out:
            require_writable(out)
        which = setups(arch)
        rows = [_ask(arch, form, which) for form in forms]
        if out:
            _write(arch, rows, out)
    except (NoKvmError, NotPermittedError) as error:
        complain(str(error))
        return NOT_PERMITTED
    except (MachineError, OSError) as error:
        complain(str(error))
        return BAD_INPUT
    if as_json:
        import msgspec

        for row in rows:
            sys.stdout.write(msgspec.json.encode(plain(row)).decode() + "\n")
    else:
        whole = text is None and code is None
        show(_summary(arch, rows) if whole else [line for row in rows for line in _one(row)])
    return DONE


def _forms(arch: Arch, text: str | None, code: str | None, *, everything: bool) -> list[AccessClass]:
    """Raises ValueError."""
    if code is not None:
        return [_of_bytes(arch, code)]
    if text is None:
        return _of_rows(arch, trap_atlas(arch)) if everything else list(CLASSES[arch])
    exact = [form for form in CLASSES[arch] if form.text == text.strip().lower()]
    return exact or _of_rows(arch, trap_atlas(arch).find(text))


def _of_rows(arch: Arch, rows: Iterable[Row]) -> list[AccessClass]:
    """Forms of the atlas, as far as they have an operand that can be put where no memory is."""
    forms = []
    for row in rows:
        code = code_of(row.word, arch)
        if points_at(arch, code, _ADDRESS) is not None:
            forms.append(AccessClass(_name(arch, code), row.text, code, _expected(arch, code), ""))
    return forms


def _name(arch: Arch, code: bytes) -> str:
    word = int.from_bytes(code, "little")
    if arch != "arm64":
        return kind_of(word)
    access = load_store(word)
    return access.form if isinstance(access, LoadStore) else "as given"


def _expected(arch: Arch, code: bytes) -> tuple[str, ...]:
    """By the form's syndrome; of riscv64 the atlas alone tells."""
    access = load_store(int.from_bytes(code, "little")) if arch == "arm64" else None
    if not isinstance(access, LoadStore) or access.described is None:
        return ()
    return ("mmio",) if access.described else ("ENOSYS",)


def _of_bytes(arch: Arch, text: str) -> AccessClass:
    """Raises ValueError."""
    code = code_of(word_of(text, arch), arch)
    if points_at(arch, code, _ADDRESS) is None:
        raise ValueError(f"{text} is no load or store that is known here, so no address can be given to it")
    return AccessClass(_name(arch, code), text, code, _expected(arch, code), "")


def _ask(arch: Arch, form: AccessClass, which: Sequence[Setup]) -> Asked:
    address = _ADDRESS + form.off
    regs = points_at(arch, form.code, address) or {form.base: address}
    answers = tuple((setup, ask(arch, form.code, address, setup, regs=regs)) for setup in which)
    return Asked(arch, form, answers, known(arch, form, platform.release()))


def known(arch: Arch, form: AccessClass, release: str) -> dict[Setup, tuple[str, ...]]:
    """Of this kernel's series, or of all kernels where they agree; nothing of what was asked in another way."""
    row = None if form.off else trap_atlas(arch).look_up(int.from_bytes(form.code, "little"))
    if row is None:
        return {}
    version = series_of(release)
    kinds_of: dict[Setup, tuple[str, ...]] = {}
    for setup, name in _ATLAS_SETUPS[arch].items():
        outcomes = of_series(row, name, version) if version is not None else []
        if not outcomes and len(outcomes := of_columns(row, name, row.columns)) > 1:
            continue
        # A CPU that lacks the instruction says nothing of this host's.
        kinds = dict.fromkeys(_kind_of_trap(trap) for _, trap in outcomes if not is_undefined(trap, arch))
        if kinds:
            kinds_of[setup] = tuple(kinds)
    return kinds_of


def _kind_of_trap(trap: Trap) -> str:
    match trap.kind:
        case "error":
            return NAMES.get(trap.code, str(trap.code))
        case "exception":
            return "trap"
        case "timeout" | "endless":
            return "loops"
        case "exit":
            return exit_name(trap.code)
    return trap.kind


def _write(arch: Arch, rows: Sequence[Asked], out: str) -> None:
    """Raises OSError."""
    with open(out, "w", encoding="ascii", errors="replace") as stream:
        stream.write(f"# {platform.release()} {arch}: class, bytes in memory, text, and for each set-up the verdict\n")
        for row in rows:
            kinds = [f"{setup}={kind(stopped)}" for setup, stopped in row.answers]
            stream.write("\t".join((row.form.name, row.form.code.hex(" "), row.form.text, *kinds)) + "\n")


def plain(row: Asked) -> ProbedAccess:
    from kvmwhy.outputs import AccessVerdict, ProbedAccess

    return ProbedAccess(
        arch=row.arch,  # type: ignore[arg-type]
        kernel=platform.release(),
        class_=row.form.name,
        text=row.form.text,
        bytes=row.form.code.hex(" "),
        verdicts={
            setup: AccessVerdict(kind=kind(stopped), says=in_words(row.arch, stopped)) for setup, stopped in row.answers
        },
        expected=list(row.form.expected),
        undefined=row.lacks,
        differs=row.differs,
        atlas={setup: list(kinds) for setup, kinds in row.known.items()},
        differs_from_atlas=row.differs_from_atlas,
    )


def _summary(arch: Arch, rows: Sequence[Asked]) -> list[Line]:
    """Each form as a VMM sees it that asks for nothing; then what other VMMs see instead. Many forms are counted."""
    lines = [Line(f"{len(rows)} accesses outside memory, asked of Linux {safe(platform.release())} ({arch})", "answer")]
    if len(rows) > _MANY:
        counted = Counter(in_words(arch, row.answers[0][1]) for row in rows)
        lines += [Line(words, "plain", f"{count:6} ", 2) for words, count in counted.most_common()]
    else:
        lines += [_short(row) for row in rows]
    for n, (setup, _) in enumerate(rows[0].answers[1:], start=1):
        changed = Counter(in_words(arch, row.answers[n][1]) for row in rows if row.answers[n][1] != row.answers[0][1])
        said = "; ".join(f"{count} become {words}" for words, count in changed.most_common())
        lines.append(Line(said or "the same", "plain", f"For {VMMS[setup]}: ", 2))
    if lacking := sum(row.lacks for row in rows):
        lines.append(Line(f"{lacking} say nothing of KVM: {_LACKS}", "dim", indent=2))
    for sentence, differing in (
        ("what the kernel's source says", [row for row in rows if row.differs]),
        ("what the atlas has of this kernel, or of all", [row for row in rows if row.differs_from_atlas]),
    ):
        count = f"{len(differing)} differ from" if differing else "none differs from"
        lines.append(Line(f"{count} {sentence}", "bad" if differing else "good", indent=2))
        lines += [_short(row) for row in differing[:_MANY]]
    return lines


def _short(row: Asked) -> Line:
    style: Style = "bad" if row.differs or row.differs_from_atlas else "plain"
    return Line(in_words(row.arch, row.answers[0][1]), style, f"{row.form.name:23} {row.form.text:29} ", 2)


def _one(row: Asked) -> list[Line]:
    lines = [Line(f"{safe(row.form.text)} ({row.form.code.hex(' ')}), {row.form.name}:", "answer")]
    for setup, stopped in row.answers:
        lines.append(Line(in_words(row.arch, stopped), "plain", f"for {VMMS[setup]}: ", 2))
    if row.lacks:
        lines.append(Line(_LACKS, "dim", indent=2))
    if row.differs:
        lines.append(Line(f"unlike what the kernel's source says: {' or '.join(row.form.expected)}", "bad", indent=2))
    if row.differs_from_atlas:
        known = ", ".join(f"{setup} {' or '.join(kinds)}" for setup, kinds in row.known.items())
        lines.append(Line(f"unlike the atlas: {known}", "bad", indent=2))
    return lines
