"""How much of a labelled corpus of reports kvmwhy reads rightly, field by field.

    .venv/bin/python tools/field_accuracy.py [DIR] [--wrong]

DIR has one folder a report: ``evidence.txt`` and its label ``case.json``. A field counts where the label
has it; of several failures in one report the one that fits the label best is scored, for all fields alike.
tools/accuracy.py scores what is concluded from them.
"""

from __future__ import annotations

import argparse
import json
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.readers.qemu.banner import ERRNO
from kvmwhy.render.json import to_object

DEFAULT: Final = Path(__file__).parent.parent.parent / "shared" / "corpus"
VENDORS: Final = {"intel": {"vmx", "tdx"}, "amd": {"svm"}}
MODES: Final = ("real16", "vm86", "prot16", "prot32", "compat16", "compat32", "long64")
POINTERS: Final = ("rip", "pc", "nip")  # of the next instruction, by architecture
FIELDS: Final = (
    "kind", "suberror", "hardware error", "errno", "exit reason", "RIP", "mode", "bytes", "text", "vendor", "SMM"
)  # fmt: skip


class Score(NamedTuple):
    """Of one report: each labelled field, whether it was recovered, and what stood there instead."""

    case: str
    fields: dict[str, tuple[bool, str, str]]

    @property
    def right(self) -> int:
        return sum(ok for ok, _, _ in self.fields.values())


def wanted(label: dict[str, Any]) -> dict[str, Any]:
    """What the label says, as far as a reader can know it."""
    out: dict[str, Any] = {}
    if label.get("suberror") is not None:
        out["kind"], out["suberror"] = "internal-error", label["suberror"]
    elif re.fullmatch(r"0x[0-9a-f]+", label.get("hardware_error") or ""):
        out["kind"], out["hardware error"] = "entry-failure", int(label["hardware_error"], 16)
    elif label.get("run_error"):
        out["kind"], out["errno"] = "run-error", ERRNO.get(label["run_error"], label["run_error"])
    reason = label.get("exit_reason") or {}
    raw = reason if isinstance(reason, str) else reason.get("raw") or ""
    if re.fullmatch(r"0x[0-9a-f]+", raw):
        out["exit reason"] = int(raw, 16)
    if re.fullmatch(r"0x[0-9a-f]+", label.get("rip") or ""):
        out["RIP"] = int(label["rip"], 16)
    mode = label.get("arch_mode") or ""
    if (found := re.match(r"\w+", mode)) and found[0] in MODES and "/" not in mode.partition(" ")[0]:
        out["mode"] = found[0]
    instruction = label.get("failing_instruction") or {}
    if isinstance(instruction, str):  # a person's words
        instruction = {}
    if re.fullmatch(r"[0-9a-f]{2}(?: [0-9a-f]{2})*", instruction.get("bytes") or ""):
        out["bytes"] = instruction["bytes"]
    if instruction.get("text"):
        out["text"] = instruction["text"]
    if label.get("vendor") in VENDORS:
        out["vendor"] = label["vendor"]
    if "smm" in mode.lower():
        out["SMM"] = True
    return out


def plain(text: str) -> str:
    """An instruction without case and the disassembler's ways of writing sizes, numbers and far pointers."""
    if (far := re.fullmatch(r"(\w+) (?:far )?(\w+)[,:](\w+)", text.lower())) and far[1] in {"jmp", "call"}:
        text = " ".join((far[1], *sorted(far.groups()[1:])))
    text = re.sub(r"0x0*(?=[0-9a-f])|\b0+(?=[0-9a-f]+h\b)|(?<=[0-9a-f])h\b", "", text.lower())
    return re.sub(r"\s|\b(?:dword|qword|word|byte|fword|xmmword|ymmword|ptr)\b|\bds:", "", text)


def same_text(want: str, got: str) -> bool:
    """Equal, or the label has only the mnemonic, or neither disassembler could read the bytes."""
    if plain(want) == plain(got) or (want == "(bad)" and ("bad" in got or not got)):
        return True
    return " " not in want and want.lower() == got.partition(" ")[0].lower()


def got(found: dict[str, Any]) -> dict[str, Any]:
    """The same fields of kvmwhy's own object."""
    cpu, instruction, exit_ = (found[key] or {} for key in ("cpu", "instruction", "exit"))

    control = (found["control"] or {}).get("fields", {})
    reasons = (exit_.get("reason"), control.get("exit_reason"), found["hardware_reason"], found["hardware_error"])

    def number(text: str | None) -> int | None:
        return None if text is None else int(text, 16)

    return {
        "kind": found["kind"],
        "suberror": found["suberror"],
        "hardware error": number(found["hardware_error"]),
        "errno": found["errno"],
        "exit reason": next((n for n in map(number, reasons) if n is not None), None),
        "RIP": next((n for name in POINTERS if (n := number(cpu.get(name))) is not None), None),
        "mode": cpu.get("mode"),
        "bytes": instruction.get("bytes"),
        "text": instruction.get("text") or "",
        "vendor": found["vendor"],
        "SMM": cpu.get("smm"),
    }


SAME: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "vendor": lambda want, have: have in VENDORS[want],
    "text": same_text,
    "RIP": lambda want, have: have is not None and want == have,
}


def same(name: str, want: Any, have: Any) -> bool:
    compare: Callable[[Any, Any], bool] = SAME.get(name, operator.eq)
    return compare(want, have)


def score(folder: Path) -> Score:
    """One report."""
    label = json.loads((folder / "case.json").read_text())
    want = wanted(label)
    best: dict[str, tuple[bool, str, str]] = {name: (False, str(value), "nothing") for name, value in want.items()}
    most = -1
    for failure in read((folder / "evidence.txt").read_bytes()).failures:
        diagnosis = diagnose(failure)
        have = got(to_object(diagnosis))
        fields = {name: (same(name, value, have[name]), str(value), str(have[name])) for name, value in want.items()}
        right = sum(ok for ok, _, _ in fields.values())
        if right > most:
            most, best = right, fields
    return Score(folder.name, best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--wrong", action="store_true", help="only the reports in which something differs")
    options = parser.parse_args()
    folders = [path.parent for path in sorted(options.directory.glob("*/case.json"))]
    scores = [score(folder) for folder in folders]
    if not scores:
        raise SystemExit(f"no case.json below {options.directory}")
    for s in scores:
        differs = [f"{name}: label {want}, read {have}" for name, (ok, want, have) in s.fields.items() if not ok]
        if differs or not options.wrong:
            print(f"{s.case}: {s.right}/{len(s.fields)} fields")
            for line in differs:
                print(f"    {line}")
    totals(scores)


def totals(scores: list[Score]) -> None:
    print("\nfield            right  of")
    for name in FIELDS:
        held = [s.fields[name][0] for s in scores if name in s.fields]
        if held:
            print(f"{name:<16} {sum(held):>5} {len(held):>3}")
    print(f"{'all':<16} {sum(s.right for s in scores):>5} {sum(len(s.fields) for s in scores):>3}")


if __name__ == "__main__":
    main()
