"""Whether each entry of the knowledge comes out of its own example.

    .venv/bin/python tools/knowledge_lint.py [--corpus DIR]

``tests/diagnosis/examples/ID.txt`` is what a log with that failure looks like, made from the format strings of QEMU
and the kernel. It goes through the whole road: reader, facts, diagnosis. A bug that does not come out belongs into
the nursery, where it is only "also look at"; a cause must come out of some example. With labelled reports at hand,
the lint also says on how many of them each bug fires, and how often its origin is the labelled one. Exit status 1:
an entry outside the nursery is silent.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final, NamedTuple

import corpus

from kvmwhy.diagnosis import catalogue, diagnose
from kvmwhy.diagnosis.facts import gather
from kvmwhy.diagnosis.knowledge import all_bugs, matches
from kvmwhy.readers import read

EXAMPLES: Final = Path(__file__).parent.parent / "tests" / "diagnosis" / "examples"
FIXTURES: Final = Path(__file__).parent.parent / "tests" / "fixtures" / "lab-svm"


class Result(NamedTuple):
    """Of one entry: whether its example gives it, and if not, what the example gives."""

    id: str
    nursery: bool
    fires: bool
    instead: tuple[str, ...]


def lint() -> list[Result]:
    """Every bug against its own example, and every cause against all examples and fixtures."""
    named = {path.stem: come_out(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.txt"))}
    nursery = {bug.id for bug in all_bugs() if bug.nursery}
    own = {bug.id for bug in all_bugs()}
    elsewhere = {name for names in named.values() for name in names}
    for path in sorted(FIXTURES.rglob("qemu.log")):
        elsewhere.update(come_out(path.read_bytes()))
    return [
        Result(name, name in nursery, name in (named.get(name, ()) if name in own else elsewhere), named.get(name, ()))
        for name in catalogue()
    ]


def come_out(evidence: bytes) -> tuple[str, ...]:
    """The entries that the findings of this text name, in order."""
    findings = [finding for failure in read(evidence).failures for finding in diagnose(failure).findings]
    return tuple(dict.fromkeys(name for finding in findings for name in (finding.cause.id, *finding.also)))


def fires(reports: list[corpus.Report]) -> dict[str, tuple[int, int, int]]:
    """Of each bug: reports it fires on, of these those it was not written with, and of these the rightly named."""
    out: dict[str, list[bool]] = {}
    others: dict[str, list[bool]] = {}
    written = {bug.id: bug for bug in all_bugs()}
    for report in reports:
        names = {m.bug.id for failure in read(report.evidence).failures for m in matches(gather(failure))}
        for name in names:
            right = written[name].origin == report.origin
            out.setdefault(name, []).append(right)
            if report.id not in written[name].corpus and report.known:
                others.setdefault(name, []).append(right)
    return {name: (len(all_), len(others.get(name, ())), sum(others.get(name, ()))) for name, all_ in out.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=corpus.DEFAULT)
    reports = corpus.load(parser.parse_args().corpus)
    silent = 0
    for result in lint():
        if not result.fires:
            silent += not result.nursery
            where = "in the nursery" if result.nursery else "SILENT"
            print(f"{result.id}: {where}; its example gives {', '.join(result.instead) or 'nothing'}")
        elif result.nursery:
            print(f"{result.id}: its example gives it: it may leave the nursery")
    if reports:
        print("\nentry                                    reports  others with a known origin  rightly named")
        for name, (count, other, right) in sorted(fires(reports).items()):
            print(f"{name:<40} {count:>7} {other:>27} {right:>14}")
    else:
        print("no labelled reports at hand: how often an entry fires on others is not known")
    return 1 if silent else 0


if __name__ == "__main__":
    raise SystemExit(main())
