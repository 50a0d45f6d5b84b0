"""How many of a corpus of reports can be reproduced, and where not, why: the table of docs/reproduce.md.

    python tools/reproduce_corpus.py [DIR] [--kvm]

DIR has a folder per report, with ``evidence.txt`` in it, or log files themselves; the default is
../shared/corpus. Each failure runs on the model, with the report's kernel and vendor as far as it
names them, and with --kvm also on /dev/kvm.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from kvmwhy.diagnosis.facts import gather
from kvmwhy.machine import KvmMachine, Machine, MachineError
from kvmwhy.machine.model import Model, UnknownKernelError, Vendor
from kvmwhy.readers import read
from kvmwhy.record import Failure
from kvmwhy.reproduce import Cannot, Outcome, Where, plan, reproduce

CORPUS: Final = Path(__file__).resolve().parent.parent.parent / "shared" / "corpus"
# Which kernels to try where the report names none: the newest of each way to report a failure.
_TRIED: Final = ("7.3", "6.12", "5.10")


class Row(NamedTuple):
    """One failure of one report. ``kvm`` is None where it was not asked for."""

    name: str
    what: str
    model: str
    kvm: str | None
    why: str


def main() -> int:
    """Print the table, and how many there are of each kind."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=CORPUS)
    parser.add_argument("--kvm", action="store_true", help="also on /dev/kvm")
    arguments = parser.parse_args()
    if not arguments.directory.is_dir():
        sys.stderr.write(f"reproduce_corpus: no directory {arguments.directory}\n")
        return 2
    # A report of many vCPUs says the same of each.
    rows = list(dict.fromkeys(judge(name, found, arguments.kvm) for name, found in failures(arguments.directory)))
    head = ("report", "failure", "on the model", *(("on /dev/kvm",) if arguments.kvm else ()), "why")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        cells = [row.name, row.what, row.model, *([row.kvm or ""] if arguments.kvm else []), row.why]
        print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    print()
    _count("model", [row.model for row in rows])
    if arguments.kvm:
        _count("/dev/kvm", [row.kvm or "" for row in rows])
    return 0


def failures(directory: Path) -> Iterator[tuple[str, Failure]]:
    """Distinct failures of each report."""
    for path in sorted(directory.iterdir()):
        source = path / "evidence.txt" if path.is_dir() else path
        if not source.is_file():
            continue
        seen = set()
        for failure in read(source.read_bytes()).failures:
            key = (failure.kind, failure.suberror, failure.data, str(failure.cpu), failure.hardware_error)
            if key not in seen:
                seen.add(key)
                yield path.name, failure


def judge(name: str, failure: Failure, kvm: bool) -> Row:
    what = failure.kind if failure.suberror is None else f"suberror {failure.suberror}"
    if failure.hardware_error is not None:
        what = f"entry failed, {failure.hardware_error:#x}"
    made = plan(failure)
    if isinstance(made, Cannot):
        missing = f"; missing: {', '.join(made.missing)}" if made.missing else ""
        return Row(name, what, "cannot", "cannot" if kvm else None, made.why + missing)
    outcome = on_model(failure)
    here = None
    if kvm:
        try:
            here = _on(KvmMachine(), failure, Where("/dev/kvm"))
        except MachineError as error:
            return Row(name, what, _status(outcome), str(error), _why(outcome))
    return Row(name, what, _status(outcome), None if here is None else _status(here), _why(outcome))


def on_model(failure: Failure) -> Outcome:
    """The report's own kernel if it is modelled; else that of a few which comes closest to the report."""
    guess = gather(failure).vendor.vendor
    vendor: Vendor = "svm" if guess == "svm" else "vmx"
    named = failure.host.kernel
    best: Outcome | None = None
    for kernel in (".".join(named.split(".")[:2]),) if named else _TRIED:
        try:
            machine = Model(kernel, vendor)
        except UnknownKernelError:
            machine = Model(_TRIED[0], vendor)
        outcome = _on(machine, failure, Where(f"{kernel} {vendor}", kernel, vendor))
        if best is None or _distance(outcome) < _distance(best):
            best = outcome
    if best is None:
        raise ValueError("no kernel to try")
    return best


def _distance(outcome: Outcome) -> tuple[bool, int]:
    """How far the outcome is from the report: another failure, then the number of words that differ."""
    return outcome.status != "reproduced", sum(row.same is False for row in outcome.rows)


def _on(machine: Machine, failure: Failure, where: Where) -> Outcome:
    with machine:
        return reproduce(failure, machine, where=where)


def _status(outcome: Outcome) -> str:
    words = any(row.what in {"reason", "data[1]"} for row in outcome.rows)
    exact = ", word for word" if outcome.exact and words else ""
    name = {"reproduced": "yes", "not-on-this-kernel": "no"}.get(outcome.status, outcome.status)
    where = f" ({outcome.where.text})" if outcome.where and outcome.status == "reproduced" else ""
    return f"{name}{exact}{where}"


def _why(outcome: Outcome) -> str:
    if outcome.status != "reproduced":
        return outcome.answer.partition("): ")[2].rstrip(".") or outcome.answer
    differ = [row.what for row in outcome.rows if row.same is False]
    return f"differs: {', '.join(differ)}" if differ else ""


def _count(where: str, cells: list[str]) -> None:
    counted = Counter(cell.split(",")[0].split(" ")[0] for cell in cells)
    total = ", ".join(f"{name}: {n}" for name, n in counted.most_common())
    able = sum(n for name, n in counted.items() if name != "cannot")
    print(f"{where}: {total}; of {able} with enough data {counted['yes']} reproduce")


if __name__ == "__main__":
    sys.exit(main())
