"""A family of faults as a test: a program that stands alone, and a KVM selftest. Both fail where KVM is wrong."""

from __future__ import annotations

from typing import Final, Literal

from kvmwhy.emulator.faults.family import CODE, CODE_BASE, Family, Guest
from kvmwhy.machine.x86.state import Regs
from kvmwhy.reproduce.export import ExportError, values
from kvmwhy.reproduce.export.ask import ask
from kvmwhy.reproduce.export.fault_template import ALONE, GUESTS, RISCV64, SELFTEST

Form = Literal["c", "selftest"]
_NEEDS: Final = {"": "ANY", "bmi1": "BMI1", "lzcnt": "LZCNT", "amd": "AMD", "intel": "INTEL"}


def program_of(family: Family) -> str:
    """Its name, without an ending."""
    return f"emulator_{family.id.replace('-', '_')}"


def write(family: Family, form: Form) -> str:
    """The whole file. Raises ExportError for what no selftest is written."""
    if family.arch == "riscv64":
        if form == "selftest":
            raise ExportError("the selftest's guests are of x86; of riscv64 there is the program that stands alone")
        stores = "\n".join(f'\t{{ "{s.text}", {s.word:#06x}, {s.size} }},' for s in family.stores)
        return _filled(RISCV64, family, {"STORES": stores})
    common = GUESTS.replace("@GUESTS@", "\n".join(map(_guest, family.guests)))
    return _filled(ALONE if form == "c" else SELFTEST, family, {"COMMON": common.rstrip()})


def twice(family: Family) -> str:
    """What the two runs of each guest are."""
    if all(guest.place == "code" for guest in family.guests):
        return "Each guest runs twice: with a CS whose base is 0 (control), and with one that has a base."
    return (
        "Each guest runs twice: with its operand in RAM, where the CPU executes the instruction (control), and where"
        " there is no memory, so that KVM has to."
    )


def _filled(template: str, family: Family, parts: dict[str, str]) -> str:
    about = [f"{family.title}. Made by kvmwhy.", "", family.manual, family.does]
    about += ["", twice(family)] if family.guests else []
    parts = {"ASK": ask("2"), "ABOUT": values.comment(about, 74), "PROGRAM": program_of(family), **parts}
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part)
    return template


def _guest(guest: Guest) -> str:
    start, end = registers(guest)
    mask, _ = guest.flags
    code = ", ".join(f"0x{byte:02x}" for byte in guest.code)
    rows = [
        f'.text = "{guest.text}",',
        f".mode = {guest.mode.upper()}, .place = {guest.place.upper()}, .needs = {_NEEDS[guest.needs]},",
        f".code = {{ {code} }}, .code_size = {len(guest.code)},",
        f".start = {{\n{_indented(values.regs(start))}\n\t\t}},",
        f".end = {{\n{_indented(values.regs(end))}\n\t\t}},",
    ]
    rows += [f".flags = {mask:#x},"] if mask else []
    rows += [".wide_stack = 1,"] if guest.wide_stack else []
    rows += [".loose = 1,"] if guest.loose else []
    for name, (at, data) in (("before", guest.before), ("after", guest.after)):
        if data:
            listed = ", ".join(f"0x{byte:02x}" for byte in data)
            rows.append(f".{name} = {{ {at}, {len(data)}, {{ {listed} }} }},")
    body = "\n".join(f"\t\t{row}" for row in rows)
    return f"\t{{\n{body}\n\t}},"


def _indented(rows: str) -> str:
    return "\n".join(f"\t\t{row}" for row in rows.splitlines())


def registers(guest: Guest) -> tuple[Regs, Regs]:
    """Those that it starts with, and those that it should end with, at the HLT behind its instruction."""
    rip = CODE if guest.mode == "long64" else CODE - CODE_BASE
    known = {"rip": rip, "rflags": 0, **guest.start}
    return Regs(**known), Regs(**{**known, "rip": rip + len(guest.code) + 1, **guest.end})
