"""Sets outcomes side by side: two kernels' of the same cases, or a kernel's and a model's.

    python -m lab.compare RESULTS OTHER                  two results files
    python -m lab.compare RESULTS --model package.module:function
    python -m lab.compare RESULTS --brief ...            the table without the differences

A model is any function from a Case to an Outcome. Exits are compared byte for byte, without what an
exit leaves unwritten in the union. Exit status: 0 all agree, 1 some do not, 2 usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lab.cases import Case
from lab.catalogue import catalogue
from lab.layout import HANDLERS, VECTORS
from lab.outcome import FAIL_ENTRY, HLT, INTERNAL_ERROR, IO, SHUTDOWN, Exit, Outcome, load

Model = Callable[[Case], Outcome]

_NAMES: Final = {0: "UNKNOWN", IO: "OUT", HLT: "HLT", SHUTDOWN: "SHUTDOWN", FAIL_ENTRY: "FAIL_ENTRY"}
_SHOWN: Final = 3  # differences of one case


class Difference(NamedTuple):
    """One case that did not come out the same."""

    case: Case
    measured: Outcome
    other: Outcome
    what: tuple[str, ...]


class Agreement(NamedTuple):
    """How two sets of outcomes compare; ``same`` and ``total`` by the cases' group."""

    total: Counter[str]
    same: Counter[str]
    differences: tuple[Difference, ...]
    absent: tuple[str, ...]  # ids that only one side has

    @property
    def complete(self) -> bool:
        return not self.differences and not self.absent

    def table(self) -> str:
        rows = [("class", "cases", "same", "different")]
        for group, total in self.total.items():
            rows.append((group, str(total), str(self.same[group]), str(total - self.same[group] or "")))
        total, same = self.total.total(), self.same.total()
        rows.append(("all", str(total), str(same), str(total - same or "")))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows)
        return "\n".join(lines) + "\n"


def differences(measured: Outcome, other: Outcome) -> tuple[str, ...]:
    """What two outcomes differ in, in words; empty if they agree.

    Where a guest stood when it was interrupted is chance, and after a failed VM-entry there is no new
    state: the vCPU's is compared only after other ends.
    """
    found = []
    for n, (a, b) in enumerate(zip(measured.exits, other.exits, strict=False)):
        left, right = a.reduced(), b.reduced()
        if left == right:
            continue
        if a.reason == b.reason == INTERNAL_ERROR:
            found.append(f"exit {n}: {_words(left)} or {_words(right)}")
        else:
            found.append(f"exit {n}: {_say(left)} or {_say(right)}")
    if len(measured.exits) != len(other.exits):
        found.append(f"{len(measured.exits)} or {len(other.exits)} exits")
    if measured.stop != other.stop:
        found.append(f"ended by {measured.stop} or {other.stop}")
    if measured.failed != other.failed:
        found.append(f"failed: {measured.failed} or {other.failed}")
    last = measured.last
    if measured.stop != "exit" or found or last is None or last.reason == FAIL_ENTRY:
        return tuple(found)
    if measured.event != other.event:
        found.append(f"to be delivered: {measured.event} or {other.event}")
    if measured.state and other.state and measured.state != other.state:
        found += (
            f"{name} {getattr(measured.state, name)} or {getattr(other.state, name)}"
            for name in measured.state.__struct_fields__
            if getattr(measured.state, name) != getattr(other.state, name)
        )
    return tuple(found)


def _words(end: Exit) -> str:
    suberror, *data = end.words
    return f"suberror {suberror}, ndata {len(data)} [{' '.join(map(hex, data))}]"


def _say(end: Exit) -> str:
    if end.gpa is not None or end.port is not None:
        where = end.gpa if end.gpa is not None else f"port {end.port}"
        return f"{'write' if end.write else 'read'} of {end.size} at {where} {end.data}".rstrip()
    if end.reason == INTERNAL_ERROR:
        return _words(end)
    return f"{_NAMES.get(end.reason, f'exit {end.reason}')} {end.significant}".rstrip()


def verdict(outcome: Outcome) -> str:
    """How it ended, in a word or two."""
    last = outcome.last
    if outcome.stop != "exit" or last is None:
        return outcome.stop
    if last.reason == INTERNAL_ERROR:
        suberror, *data = last.words
        return f"suberror {suberror} n{len(data)}"
    if last.reason == FAIL_ENTRY:
        return f"FAIL_ENTRY {int.from_bytes(bytes.fromhex(last.payload[:16]), 'little'):#x}"
    if last.reason == HLT and outcome.state and (vector := _vector(outcome)) is not None:
        return f"vector {vector}"
    return _NAMES.get(last.reason, f"exit {last.reason}")


def _vector(outcome: Outcome) -> int | None:
    """The handler it halted in."""
    if outcome.state is None:
        return None
    rip, cs = int(outcome.state.rip, 16), int(outcome.state.cs, 16)
    at = rip + (cs << 4 if cs == HANDLERS >> 4 else 0) - HANDLERS
    return at // 16 if 0 <= at < 16 * VECTORS else None


def compare(measured: dict[str, Outcome], other: Model, cases: Iterable[Case]) -> Agreement:
    """Every case that was measured, against what ``other`` says of it."""
    total: Counter[str] = Counter()
    same: Counter[str] = Counter()
    found, absent = [], []
    for case in cases:
        outcome = measured.get(case.id)
        if outcome is None:
            absent.append(case.id)
            continue
        try:
            modelled = other(case)
        except KeyError:
            absent.append(case.id)
            continue
        group = case.facts.group if case.facts else ""
        total[group] += 1
        if what := differences(outcome, modelled):
            found.append(Difference(case, outcome, modelled, what))
        else:
            same[group] += 1
    return Agreement(total, same, tuple(found), tuple(absent))


def compare_file(results: Path, other: Model) -> Agreement:
    """A results file against a model. Cases that were not measured are not asked for."""
    measured = load(results)[1]
    return compare(measured, other, (case for case in catalogue() if case.id in measured))


def as_model(outcomes: dict[str, Outcome]) -> Model:
    """What another kernel did, as if it were a model."""
    return lambda case: outcomes[case.id]


def report(agreement: Agreement) -> str:
    """Each difference, with the case in words."""
    lines = []
    for difference in agreement.differences:
        about = difference.case.facts.about if difference.case.facts else ""
        lines.append(f"{difference.case.id}: {about}")
        lines += (f"    {what}" for what in difference.what[:_SHOWN])
        if len(difference.what) > _SHOWN:
            lines.append(f"    and {len(difference.what) - _SHOWN} more")
    lines += (f"{name}: only one side has it" for name in agreement.absent)
    return "".join(f"{line}\n" for line in lines)


def summary(paths: Sequence[Path]) -> str:
    """What each results file has, and how often it agrees with the one before of the same vendor."""
    lines = []
    previous: dict[str, tuple[str, dict[str, Outcome]]] = {}
    cases = catalogue()
    loaded = [(path, *load(path)) for path in paths]
    loaded.sort(key=lambda item: (item[1].vendor, item[1].module_args, _version(item[1].release)))
    for path, head, outcomes in loaded:
        verdicts = Counter(map(verdict, outcomes.values()))
        lines.append(f"{path.name}: {len(outcomes)} of {head.cases} cases, {head.date}, {head.bench}")
        lines.append("    " + ", ".join(f"{name}: {n}" for name, n in verdicts.most_common(12)))
        key = f"{head.vendor} {head.module_args}"
        if key in previous:
            name, before = previous[key]
            agreement = compare(before, as_model(outcomes), cases)
            coarse = sum(verdict(before[i]) == verdict(o) for i, o in outcomes.items() if i in before)
            same, total = agreement.same.total(), agreement.total.total()
            lines.append(f"    against {name}: {same} of {total} byte-identical, {coarse} end the same way")
        previous[key] = (head.release, outcomes)
    return "".join(f"{line}\n" for line in lines)


def _version(release: str) -> tuple[int, ...]:
    from lab.kernels import version_of

    return version_of(release)


def _model(name: str) -> Model:
    module, _, function = name.partition(":")
    found: Model = getattr(importlib.import_module(module), function)
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lab.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--model", metavar="MODULE:FUNCTION")
    parser.add_argument("--brief", action="store_true")
    options = parser.parse_args(arguments)
    if (options.other is None) == (options.model is None):
        parser.error("give another results file, or --model")
    other = as_model(load(options.other)[1]) if options.other else _model(options.model)
    agreement = compare_file(options.results, other)
    if not options.brief:
        sys.stdout.write(report(agreement))
    sys.stdout.write(agreement.table())
    return 0 if agreement.complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
