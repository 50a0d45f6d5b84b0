"""Which of a VMM's own messages does kvmwhy read? Takes the VMM's source tree, and lists those that nothing is read of.

    python tools/vmm_messages.py TREE --prefix 'qemu-kvm: ' 'accel/kvm/*.c' 'target/*/kvm/*.c' 'target/i386/sev.c'
    python tools/vmm_messages.py TREE --prefix '  Fatal: ' kvm.c 'arm/*.c' 'x86/*.c'
    python tools/vmm_messages.py TREE --prefix 'cloud-hypervisor: ' 'hypervisor/src/**/*.rs' 'vmm/src/cpu.rs'

Each format string of error_report(), die(), #[error("…")] and their like is filled with values that its conversions
can have, and read by itself. What is listed need not be a failure: warnings and wrong options of a command line are
among it. It prints the counts last.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from kvmwhy.readers import read

_C: Final = re.compile(
    r"\b(?:error_(?:report|report_once|setg|setg_errno|printf|prepend|append_hint)|warn_report(?:_once)?|cpu_abort"
    r"|hw_error|fprintf|die|die_perror|pr_err|pr_warning|perror)\s*\("
)
_RUST_AND_GO: Final = re.compile(
    r"(?:#\[(?:error|display)\(|\b(?:error|warn|bail|anyhow|panic|format)!\(|\.(?:expect|context)\(|write!\(\s*f,"
    r"|\b(?:Errorf|panic|throw|Warningf)\()\s*"
)
_STRING: Final = re.compile(r'"((?:[^"\\\n]|\\.|\\\n)*)"|(\bPRI[xXud]\w*|\bTARGET_FMT_\w+|\bHWADDR_\w+)|\b__func__\b')
_CONVERSION: Final = re.compile(r"%[-#0 +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:hh?|ll?|z|j|t|q)?([a-zA-Z%])")
_FIELD: Final = re.compile(r"\{[^{}]*\}")
_FUNCTION: Final = re.compile(r"^[a-zA-Z_][\w\s*]*?\b(\w+)\s*\([^;{}]*\)\s*\n\{", re.MULTILINE)
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_MACROS: Final = {"x": "x", "X": "X", "u": "u", "d": "d"}
_VALUES: Final = {"d": "-22", "i": "-22", "u": "3", "x": "3a", "X": "3A", "p": "0x7f0000001000", "c": "x", "%": "%"}
_ERRNO: Final = "Invalid argument"
_ABOUT_KVM: Final = re.compile(
    r"kvm|vcpu|\bvm\b|msr|cpuid|s?regs|register|irq ?chip|gic|memory (?:region|slot)|capab|hypervisor|exit|ioctl|sev"
    r"|tdx",
    re.IGNORECASE,
)


class Message(NamedTuple):
    """``text`` is what the program would print; ``line`` the line of its source, from 1."""

    file: str
    line: int
    text: str


def of_c(file: str, source: str) -> Iterator[Message]:
    """The format strings that stand in calls which report an error."""
    functions = [(match.start(), match[1]) for match in _FUNCTION.finditer(source)]
    for call in _C.finditer(source):
        function = next((name for at, name in reversed(functions) if at < call.start()), "main")
        template = _template(source, call.end(), function)
        if template:
            ends = f": {_ERRNO}" if call[0].startswith(("error_setg_errno", "perror", "die_perror")) else ""
            yield Message(file, source.count("\n", 0, call.start()) + 1, _filled(template) + ends)


def _template(source: str, at: int, function: str) -> str:
    """The strings that follow each other from here on, with the conversions that macros stand for."""
    parts: list[str] = []
    for match in _STRING.finditer(source, at, at + 2000):
        between = source[at : match.start()]
        if ";" in between or (parts and between.strip(" \t\n,")) or (parts and "," in between):
            break
        if match[1] is not None:
            parts.append(match[1])
        elif match[2] is not None:
            parts.append("%x" if match[2].startswith(("TARGET", "HWADDR_FMT")) else _MACROS.get(match[2][3], "x"))
        at = match.end()
    return "".join(parts).replace("%s: ", f"{function}: ", 1)


def _filled(template: str) -> str:
    text = template.replace('\\"', '"').replace("\\t", "\t").replace("\\n", "\n").replace("\\\n", "")
    return _CONVERSION.sub(lambda match: _VALUES.get(match[1], _ERRNO), text).strip("\n")


def of_rust_and_go(file: str, source: str) -> Iterator[Message]:
    """The texts of error types and of what is logged, as far as they are about KVM's matters."""
    for call in _RUST_AND_GO.finditer(source):
        string = _STRING.match(source, call.end())
        if string is None or string[1] is None or not _ABOUT_KVM.search(string[1]):
            continue
        text = _FIELD.sub(f"{_ERRNO} (os error 22)", _filled(re.sub(r"\\\n\s*", "", string[1])))
        ends = "" if _ERRNO in text else f": {_ERRNO} (os error 22)"
        yield Message(file, source.count("\n", 0, call.start()) + 1, text + ends)


def messages(tree: Path, patterns: list[str]) -> Iterator[Message]:
    """Of every file of the tree that a pattern names, each text once."""
    seen: set[str] = set()
    for path in sorted({path for pattern in patterns for path in tree.glob(pattern) if path.is_file()}):
        source = _COMMENT.sub(lambda match: "\n" * match[0].count("\n"), path.read_text(errors="replace"))
        find = of_c if path.suffix in {".c", ".h"} else of_rust_and_go
        for message in find(str(path.relative_to(tree)), source):
            if message.text.strip() and message.text not in seen:
                seen.add(message.text)
                yield message


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("patterns", nargs="+", help="files below TREE, as a shell names them; ** is any directory")
    parser.add_argument("--prefix", default="", help="what the program prints before each message")
    options = parser.parse_args()
    count = unread = 0
    for message in messages(options.tree, options.patterns):
        count += 1
        if not read(f"{options.prefix}{message.text}\n".encode()).failures:
            unread += 1
            print(f"{message.file}:{message.line}: {message.text!r}")
    print(f"{count - unread} of {count} are read")


if __name__ == "__main__":
    main()
