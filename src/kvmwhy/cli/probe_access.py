"""``kvmwhy probe`` on arm64 and riscv64: what this host's KVM makes of each class of access outside memory."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from kvmwhy.abi.uname import Arch
from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.cli.output import complain, show
from kvmwhy.machine.access import Setup, ask, in_words, kind, points_at, setups
from kvmwhy.machine.bare_guest import Stopped
from kvmwhy.machine.errors import MachineError, NoKvmError, NotPermittedError
from kvmwhy.probe.access_classes import CLASSES, AccessClass
from kvmwhy.render.page import Line, Style
from kvmwhy.render.safe import safe

DONE, NOTHING, USAGE, NO_KVM = 0, 1, 2, 3
_ADDRESS: Final = 0x0D00_0000
_WORD: Final = 4
SETUP_WORDS: Final[dict[Setup, str]] = {
    "plain": "a VMM that asks for nothing",
    "nisv": "a VMM with KVM_CAP_ARM_NISV_TO_USER",
    "abort": "a VMM that then injects an external abort, as QEMU does",
}


class Asked(NamedTuple):
    """One form, and what became of it under each set-up."""

    form: AccessClass
    answers: tuple[tuple[Setup, Stopped], ...]

    @property
    def differs(self) -> bool:
        """From what the kernel's source and the architecture say."""
        return bool(self.form.expected) and kind(self.answers[0][1]) not in self.form.expected


def run(arch: Arch, *, text: str | None, code: str | None, out: str | None, as_json: bool) -> int:
    """Probe; return the exit status."""
    try:
        forms = _forms(arch, text, code)
    except ValueError as error:
        complain(str(error))
        return USAGE
    if not forms:
        complain(f"{text!r} is no class of access that is known here; --bytes takes any instruction")
        return NOTHING
    try:
        rows = [_ask(arch, form, setups(arch)) for form in forms]
    except (NoKvmError, NotPermittedError) as error:
        complain(str(error))
        return NO_KVM
    except (MachineError, OSError) as error:
        complain(str(error))
        return USAGE
    _keep(arch, rows, out, as_json=as_json, whole=text is None and code is None)
    return DONE


def _forms(arch: Arch, text: str | None, code: str | None) -> list[AccessClass]:
    if code is not None:
        return [_of_bytes(arch, code)]
    if text is None:
        return list(CLASSES[arch])
    exact = [form for form in CLASSES[arch] if form.text == text.strip().lower()]
    mnemonic = text.split()[:1]
    same = [form for form in CLASSES[arch] if form.text.split()[:1] == mnemonic]
    if exact or same or arch != "arm64":
        return exact or same
    from kvmwhy.arch.arm64.assembly import form_of

    access = form_of(text)
    return [form for form in CLASSES[arch] if access is not None and form.name == access.form]


def _of_bytes(arch: Arch, text: str) -> AccessClass:
    """Raises ValueError. A word of A64 is taken as a disassembler prints it, bytes of RISC-V as they lie in memory."""
    data = bytes.fromhex(text.replace("0x", "").replace(",", " "))
    if arch == "arm64":
        if len(data) != _WORD:
            raise ValueError(f"--bytes takes a word of A64, such as a9401003, not {text!r}")
        data = data if " " in text.strip() else data[::-1]
    elif len(data) not in {2, _WORD}:
        raise ValueError("--bytes takes an instruction of 2 or 4 bytes, in the order in which they lie in memory")
    if points_at(arch, data, _ADDRESS) is None:
        raise ValueError(f"{text} is no load or store that is known here, so no address can be given to it")
    access = load_store(int.from_bytes(data, "little")) if arch == "arm64" else None
    name, expected = "as given", tuple[str, ...]()
    if isinstance(access, LoadStore):
        name = access.form
        expected = () if access.described is None else ("mmio",) if access.described else ("ENOSYS",)
    return AccessClass(name, text, data, expected, "")


def _ask(arch: Arch, form: AccessClass, which: Sequence[Setup]) -> Asked:
    address = _ADDRESS + form.off
    regs = points_at(arch, form.code, address) or {form.base: address}
    answers = tuple((setup, ask(arch, form.code, address, setup, regs=regs)) for setup in which)
    return Asked(form, answers)


def _keep(arch: Arch, rows: Sequence[Asked], out: str | None, *, as_json: bool, whole: bool) -> None:
    if out:
        with open(out, "w", encoding="ascii", errors="replace") as stream:
            stream.write(f"# {platform.release()} {arch}: class, bytes, text, and for each set-up the verdict\n")
            for row in rows:
                kinds = [f"{setup}={kind(stopped)}" for setup, stopped in row.answers]
                stream.write("\t".join((row.form.name, row.form.code.hex(), row.form.text, *kinds)) + "\n")
    if as_json:
        import msgspec

        for row in rows:
            sys.stdout.write(msgspec.json.encode(_plain(arch, row)).decode() + "\n")
    else:
        show(_summary(arch, rows) if whole else [line for row in rows for line in _one(arch, row)])


def _plain(arch: Arch, row: Asked) -> dict[str, Any]:
    return {
        "arch": arch,
        "kernel": platform.release(),
        "class": row.form.name,
        "text": row.form.text,
        "bytes": row.form.code.hex(" "),
        "verdicts": {setup: {"kind": kind(stopped), "says": in_words(arch, stopped)} for setup, stopped in row.answers},
        "expected": list(row.form.expected),
        "differs": row.differs,
    }


def _summary(arch: Arch, rows: Sequence[Asked]) -> list[Line]:
    """Each form as a VMM sees it that asks for nothing; then what other VMMs see instead."""
    lines = [Line(f"{len(rows)} accesses outside memory, asked of Linux {safe(platform.release())} ({arch})", "answer")]
    for row in rows:
        style: Style = "bad" if row.differs else "plain"
        lines.append(Line(in_words(arch, row.answers[0][1]), style, f"{row.form.name:23} {row.form.text:29} ", 2))
    for n, (setup, _) in enumerate(rows[0].answers[1:], start=1):
        changed = Counter(in_words(arch, row.answers[n][1]) for row in rows if row.answers[n][1] != row.answers[0][1])
        said = "; ".join(f"{count} become {words}" for words, count in changed.most_common())
        lines.append(Line(said or "the same", "plain", f"For {SETUP_WORDS[setup]}: ", 2))
    differing = sum(row.differs for row in rows)
    count = f"{differing} differ from" if differing else "all are"
    lines.append(Line(f"{count} what the kernel's source says", "bad" if differing else "good", indent=2))
    return lines


def _one(arch: Arch, row: Asked) -> list[Line]:
    lines = [Line(f"{safe(row.form.text)} ({row.form.code.hex(' ')}), {row.form.name}:", "answer")]
    for setup, stopped in row.answers:
        lines.append(Line(in_words(arch, stopped), "plain", f"for {SETUP_WORDS[setup]}: ", 2))
    if row.differs:
        lines.append(Line(f"unlike what the kernel's source says: {' or '.join(row.form.expected)}", "bad", indent=2))
    return lines
