"""The atlas against tables that were read from the kernel's source: every disagreement, and who is wrong.

    python -m lab.crosscheck                       against src/kvmwhy/emulator/data/handlers.csv
    python -m lab.crosscheck --table FILE.csv      against another table with the columns map, opcode, modrm_reg, mod3,
                                                   prefix, supported, since_kernel, modrm_rm, vex, mode, outcome
    python -m lab.crosscheck --markdown            as docs/atlas.md has it

A table says of a form that it has a handler, none, one that gives up, or that the guest gets #UD; the atlas says what
came out. Exit status: 0 if every disagreement has an explanation; 1 if one has none.
"""

from __future__ import annotations

import argparse
import csv
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from kvmwhy.arch.x86.mode import LONG64, PROT16, PROT32, REAL16
from kvmwhy.arch.x86.mode import Mode as CpuMode
from kvmwhy.emulator.atlas import Atlas, Kernel, Measured, Row
from kvmwhy.emulator.opcode_table import slots, version_of
from kvmwhy.emulator.prefixes import read_prefixes
from kvmwhy.emulator.verdict import by_table
from kvmwhy.emulator.vex import is_vex
from kvmwhy.probe.encodings import Mode, text_of
from lab.atlas import ATLAS

MODES: Final[dict[Mode, CpuMode]] = {"real16": REAL16, "prot16": PROT16, "prot32": PROT32, "long64": LONG64}
_UD: Final = 6
_LENGTH: Final = 15
Said = str  # handler, fails, ud; unknown
Table = Callable[[Row, Kernel], Said]


class Disagreement(NamedTuple):
    row: Row
    kernel: Kernel
    said: Said
    seen: Measured


class Reason(NamedTuple):
    """``holds`` for the disagreements that it explains; ``wrong``: table, atlas, or neither."""

    name: str
    wrong: str
    text: str
    holds: Callable[[Disagreement], bool]


_SVM: Final = {"vmrun", "vmload", "vmsave", "stgi", "clgi", "skinit", "invlpga"}
_BY_MODE: Final = {
    *(
        "int",
        "int3",
        "int1",
        "iret",
        "iretd",
        "iretq",
        "fxsave",
        "fxsave64",
        "fxrstor",
        "fxrstor64",
        "sysenter",
        "enter",
    ),
    "cmpxchg16b",
}
_BY_MODE_BYTES: Final = {"0f34", "0fae", "0fc7"}


def _first(one: Disagreement) -> str:
    return _text(one.row).split(" ")[0]


def _opcode(row: Row) -> str:
    code = row.code.ljust(_LENGTH, b"\xf4")
    at = read_prefixes(code, long=row.mode == "long64").end
    return code[at : at + 2].hex()


def _text(row: Row) -> str:
    words = text_of(row.code.ljust(_LENGTH, b"\xf4"), row.mode).split(" ")
    skip = {"lock", "rep", "repe", "repne", "data16", "data32", "data64", "addr32", "addr16", "bnd", "notrack"}
    while len(words) > 1 and words[0] in skip:
        words.pop(0)
    return " ".join(words)


REASONS: Final = (
    Reason(
        "values",
        "neither",
        "The handler runs, and gives the guest the exception that a CPU gives it for these values, or jumps to where"
        " nothing is mapped.",
        lambda one: one.said == "handler" and one.seen.kind == "exception" and one.seen.compared == "same",
    ),
    Reason(
        "forced-emulation",
        "neither",
        "Real mode is asked by forced emulation, where KVM turns what it cannot decode into #UD for the guest.",
        lambda one: (
            one.row.mode == "real16" and one.said == "fails" and (one.seen.kind, one.seen.code) == ("exception", _UD)
        ),
    ),
    Reason(
        "nested-checks",
        "neither",
        "The tables know SVM's instructions only for nested guests' intercepts. What they check first (EFER.SVME, the"
        " address in RAX) ends in an exception, before it matters that nothing carries them out.",
        lambda one: one.seen.kind == "exception" and _first(one) in _SVM,
    ),
    Reason(
        "cpuid-or-state",
        "neither",
        "The handler refuses with #UD what the guest's CPUID or state does not offer: SYSCALL without EFER.SCE, RSM"
        " outside SMM, RDPID, MOVBE and others that CPUID lacks.",
        lambda one: one.said == "handler" and (one.seen.kind, one.seen.code) == ("exception", _UD),
    ),
    Reason(
        "cr0",
        "neither",
        "5.10 carries out this write to CR0, which turns paging off in 64-bit mode and leaves nothing to go on with;"
        " newer kernels give the guest #GP.",
        lambda one: one.seen.kind == "fails" and _text(one.row).startswith("mov cr0"),
    ),
    Reason(
        "into",
        "neither",
        "INTO without overflow does nothing, and does it in every mode; the table speaks of INTO with overflow.",
        lambda one: one.said == "fails" and one.seen.works and _first(one) == "into",
    ),
    Reason(
        "modes",
        "table",
        "A table with one row for a slot cannot say that its handler gives up in this mode or at this level: INT and"
        " IRET outside real mode, FXSAVE, FXRSTOR and SYSENTER in 64-bit mode, ENTER above level 0, CMPXCHG16B.",
        lambda one: one.said == "handler" and one.seen.kind == "fails" and _first(one) in _BY_MODE,
    ),
    Reason(
        "modes-by-bytes",
        "table",
        "The same, of bytes with a prefix that makes them no instruction.",
        lambda one: one.said == "handler" and one.seen.kind == "fails" and _opcode(one.row) in _BY_MODE_BYTES,
    ),
)


def from_handlers(row: Row, kernel: Kernel) -> Said:
    """What handlers.csv says, by the package's own look-up."""
    code = row.code.ljust(_LENGTH, b"\xf4")
    found = by_table(code, mode=MODES[row.mode], version=kernel.series)
    return {"handler": "handler", "no-handler": "fails", "gives-up": "fails", "injects-ud": "ud"}.get(
        found.outcome, "unknown"
    )


def from_csv(path: Path) -> Table:
    """Another table, one row for each slot that KVM tells apart."""
    slots: dict[tuple[str, int, bool], list[dict[str, str]]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for one in csv.DictReader(file):
            slots[one["map"], int(one["opcode"], 16), one["vex"] == "yes"].append(one)

    def said(row: Row, kernel: Kernel) -> Said:
        return _slot(slots, row, kernel)

    return said


def _slot(slots: dict[tuple[str, int, bool], list[dict[str, str]]], row: Row, kernel: Kernel) -> Said:
    code, long = row.code.ljust(_LENGTH, b"\xf4"), row.mode == "long64"
    prefixes = read_prefixes(code, long=long)
    at, vex = prefixes.end, False
    opcode_map, prefix = "0", prefixes.mandatory
    if is_vex(code, at, long=long):
        vex = True
        short = code[at] == 0xC5
        opcode_map = "0f" if short else {1: "0f", 2: "0f38"}.get(code[at + 1] & 0x1F, "?")
        last = code[at + 1] if short else code[at + 2]
        if last & 0x78 != 0x78:
            return "fails"
        prefix = ("none", "66", "f3", "f2")[last & 3]
        at += 2 if short else 3
    elif code[at] == 0x0F:
        escape = {0x38: "0f38", 0x3A: "0f3a"}.get(code[at + 1])
        opcode_map, at = (escape, at + 2) if escape else ("0f", at + 1)
    opcode, modrm = code[at], code[at + 1]
    mod = "reg" if modrm >= 0xC0 else "mem"
    wanted = {"modrm_reg": str(modrm >> 3 & 7), "mod3": mod, "modrm_rm": str(modrm & 7)}
    wanted["mode"] = "64" if long else "not64"
    rows = slots.get((opcode_map, opcode, vex), [])
    split = any(one["prefix"] != "*" for one in rows if _fits(one, wanted))
    if split and prefixes.conflict and not vex:
        return "fails"
    rows = [one for one in rows if _fits(one, wanted) and one["prefix"] in ("*", prefix)]
    if not rows:
        other = [one for one in slots.get((opcode_map, opcode, vex), []) if one["mode"] not in ("*", wanted["mode"])]
        return "ud" if other and long else "fails"
    return _outcome(rows[0], kernel, locked=prefixes.lock, register=mod == "reg", real=row.mode == "real16")


def _fits(one: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(one[name] in ("*", value) for name, value in wanted.items())


def _outcome(one: dict[str, str], kernel: Kernel, *, locked: bool, register: bool, real: bool) -> Said:
    flags = one["flags"].split("|")
    since = one["since_kernel"]
    if one["outcome"] in ("fail-decode", "fail-execute"):
        return "fails"
    if since == "6.0-dropped":
        return "handler" if kernel.series < (6, 0) else "fails"
    if (version := version_of(since)) and kernel.series < version:
        return "fails"
    if one["outcome"] == "inject-ud" or (locked and ("Lock" not in flags or register)) or (real and "Prot" in flags):
        return "ud"
    return "handler"


def _agrees(said: Said, seen: Measured) -> bool:
    if said == "handler":
        return seen.kind in {"emulated", "no-exit", "endless", "shutdown", "exit"}
    if said == "ud":
        return (seen.kind, seen.code) == ("exception", _UD)
    return said == "unknown" or seen.kind == "fails"


def disagreements(atlas: Atlas, table: Table) -> Iterator[Disagreement]:
    changes = sorted({row.version for slot in slots().values() for row in slot.rows if row.version})
    eras = [bisect_right(changes, kernel.series) for kernel in atlas.kernels]
    for row in atlas:
        by_era: dict[int, Said] = {}
        for kernel, era, seen in zip(row.kernels, eras, row.verdicts, strict=True):
            if seen is None or kernel.module_args:
                continue
            said = by_era[era] = by_era.get(era) or table(row, kernel)
            if not _agrees(said, seen):
                yield Disagreement(row, kernel, said, seen)


def reason_of(one: Disagreement) -> Reason | None:
    return next((reason for reason in REASONS if reason.holds(one)), None)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lab.crosscheck", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, help="default: the package's own")
    parser.add_argument("--atlas", type=Path, default=ATLAS)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--show", type=int, default=6, help="examples of each (default: %(default)s)")
    options = parser.parse_args(arguments)
    atlas = Atlas(options.atlas.read_bytes())
    table = from_csv(options.table) if options.table else from_handlers
    groups: dict[Reason | None, list[Disagreement]] = defaultdict(list)
    total = sum(
        seen is not None and not kernel.module_args
        for row in atlas
        for kernel, seen in zip(row.kernels, row.verdicts, strict=True)
    )
    for one in disagreements(atlas, table):
        groups[reason_of(one)].append(one)
    differ = sum(map(len, groups.values()))
    sys.stdout.write(f"{total} verdicts, {total - differ} agree, {differ} do not\n")
    for reason, ones in sorted(groups.items(), key=lambda group: (group[0] is None, -len(group[1]))):
        sys.stdout.write(_group(reason, ones, show=options.show, markdown=options.markdown))
    return 1 if None in groups else 0


def _group(reason: Reason | None, ones: Sequence[Disagreement], *, show: int, markdown: bool) -> str:
    examples: dict[tuple[str, str], list[Disagreement]] = defaultdict(list)
    for one in ones:
        examples[one.row.mode, one.row.code.hex(" ")].append(one)
    name, wrong = (reason.name, reason.wrong) if reason else ("UNEXPLAINED", "?")
    head = f"* **{name}**" if markdown else name
    lines = [f"{head}: {len(ones)} verdicts on {len(examples)} forms; wrong: {wrong}"]
    if reason:
        lines.append(f"  {reason.text}")
    for (mode, code), some in list(examples.items())[: show if reason else 10 * show]:
        kinds = Counter(f"{one.said} / {one.seen.kind} {one.seen.code or ''}".strip() for one in some)
        kernels = ", ".join(one.kernel.name for one in some)
        lines.append(f"  {mode} {code}  {_text(some[0].row)}: {', '.join(kinds)} ({kernels})")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
