"""Whether reports are read alike however they were posted: each is mangled in each way, read and explained.

    .venv/bin/python tools/mangle.py [--only WORD] [--case WORD] [--shared DIR] [--least PERCENT] [-v]

Reports are tests/fixtures and, if DIR is there, its corpus/*/evidence.txt and samples. What a mangling changes in a
record or in its diagnosis is counted by kind; -v names the reports. Some texts are mangled beyond repair: the counts
are there to be compared with those of another commit. With --least it fails where fewer are read alike.
"""

from __future__ import annotations

import argparse
import gzip
import os
import quopri
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from msgspec.structs import astuple

ROOT: Final = Path(__file__).parent.parent
sys.path.insert(0, os.fspath(ROOT / "tests"))

from kvmwhy.diagnosis import diagnose  # noqa: E402
from kvmwhy.readers import read  # noqa: E402
from kvmwhy.record import Failure  # noqa: E402
from mangles import MANGLES, OF_QEMU  # noqa: E402

SHARED: Final = ROOT.parent / "shared"
FIXTURES: Final = ROOT / "tests" / "fixtures"
_NOT_SAID: Final = {"source", "host", "repairs", "damage", "trace", "cpu_shared", "arch_from", "seen_at"}
_OF_A_KERNEL: Final = {"host-trouble", "undef-injected", "setup-refused"}
_MOST_DIAGNOSED: Final = 5


class Reading(NamedTuple):
    """What was read of a text: the fields of each failure, and the first answers."""

    failures: list[dict[str, Any]]
    answers: list[tuple[Any, ...]]


def reports(shared: Path, largest: int) -> Iterator[tuple[str, str]]:
    """Texts by name; a mail's body that is encoded is decoded first."""
    paths = [*sorted(FIXTURES.rglob("*")), *sorted(shared.glob("corpus/*/evidence.txt"))]
    paths += sorted(path for path in shared.glob("samples/**/*") if path.suffix in {".txt", ".log"})
    for path in paths:
        if not path.is_file() or path.suffix in {".json", ".py"}:
            continue
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if b"=3D" in data:
            data = quopri.decodestring(data)
        if 0 < len(data) <= largest and b"\0" not in data:
            name = path.relative_to(FIXTURES if path.is_relative_to(FIXTURES) else shared)
            yield str(name), data.decode("utf-8", "replace").rstrip("\n") + "\n"


def reading(data: bytes) -> Reading:
    failures = read(data).failures
    return Reading([fields(f) for f in failures], [answer(f) for f in failures[:_MOST_DIAGNOSED]])


def fields(failure: Failure) -> dict[str, Any]:
    said = {name: getattr(failure, name) for name in failure.__struct_fields__ if name not in _NOT_SAID}
    if failure.cpu:
        said["cpu"] = (failure.cpu.registers, {n: astuple(s) for n, s in failure.cpu.segments.items()})
    if failure.code:
        said["code"] = (failure.code.window, failure.code.rip_at)
    return said


def answer(failure: Failure) -> tuple[Any, ...]:
    diagnosis = diagnose(failure)
    mechanism = diagnosis.mechanism and diagnosis.mechanism.id
    return mechanism, diagnosis.origins[0].id if diagnosis.origins else None, diagnosis.findings[0].cause.id


def difference(clean: Reading, mangled: Reading) -> str | None:
    """In what the two differ, in few words."""
    if not mangled.failures:
        return "nothing found"
    if len(clean.failures) != len(mangled.failures):
        return f"{len(mangled.failures)} failures for {len(clean.failures)}"
    pairs = list(zip(clean.failures, mangled.failures, strict=True))
    if names := [name for name in pairs[0][0] if any(one[name] != other[name] for one, other in pairs)]:
        return ", ".join(names)
    return None if clean.answers == mangled.answers else "diagnosis"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="manglings with this word")
    parser.add_argument("--case", default="", help="reports with this word")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--largest", type=int, default=64 << 10, help="bytes of a report")
    parser.add_argument("--least", type=float, default=0.0, help="per cent that are to be read alike")
    parser.add_argument("-v", "--verbose", action="store_true", help="name the reports that differ")
    options = parser.parse_args()
    texts = {n: text for n, text in reports(options.shared, options.largest) if options.case in n}
    clean = {name: reading(text.encode()) for name, text in texts.items()}
    texts = {name: text for name, text in texts.items() if clean[name].failures}
    manglings = {name: mangle for name, mangle in MANGLES.items() if options.only in name}
    differing: Counter[str] = Counter()
    for name, mangle in manglings.items():
        kinds: dict[str, list[str]] = {}
        for case, text in texts.items():
            if name.partition(", then")[0] in OF_QEMU and any(f["kind"] in _OF_A_KERNEL for f in clean[case].failures):
                continue
            if kind := difference(clean[case], reading(mangle(text))):
                kinds.setdefault(kind, []).append(case)
                differing[case] += 1
        bad = sum(map(len, kinds.values()))
        most = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
        words = "; ".join(f"{kind} ({len(cases)})" for kind, cases in most[:4])
        print(f"{name:<40} {len(texts) - bad:>4} of {len(texts)}  {words}", flush=True)
        if options.verbose:
            for kind, cases in most:
                print(*(f"    {kind}: {case}" for case in cases), sep="\n")
    total, wrong = len(texts) * len(manglings), differing.total()
    print(f"{total - wrong} of {total} alike, {100 * wrong / max(1, total):.2f} % differ, most of them: ")
    print(*(f"    {count:>4} {case}" for case, count in differing.most_common(20)), sep="\n")
    sys.exit(100 * (total - wrong) < options.least * total)


if __name__ == "__main__":
    main()
