"""Runs the states of entry_states.py one by one, and keeps the kernel's log of each beside its outcome.

    python lab/entry_run.py svm|vmx [--kernel 6.1 …] [--module-args unrestricted_guest=0]

Results go to lab/results/entry-states: provenance, then one ``Kept`` per line. Work directory, kernels and
benches are those of run.py; `fetch` there first. The kernel's log has a dump of the VMCS or VMCB for each
entry that the CPU refused.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # started as a script, so that lab/ is there instead
    sys.path[0] = str(ROOT)

from lab import benches, boot, command, kernels  # noqa: E402
from lab.cases import pack_all  # noqa: E402
from lab.console import complain  # noqa: E402
from lab.entry_states import states  # noqa: E402
from lab.outcome import Outcome, Provenance, open_results, today  # noqa: E402
from lab.ready import NotReadyError, kernels_for, work_directory  # noqa: E402


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one state: the outcome, and what the kernel logged meanwhile."""

    outcome: Outcome
    log: str = ""


# Case by case, with the kernel's log of each: it would not hold all their dumps at once.
_COMMAND: Final = """\
zcat /cases.gz > /cases
dmesg -c > /dev/null
while read -r id; do
    /replay /cases "$id" || echo "$id failed" >&2
    echo "@@log"
    dmesg -c
done < /ids
"""
_DUMP: Final = {"svm": "dump_invalid_vmcb=1", "vmx": "dump_invalid_vmcs=1"}


def run(
    bench: str, kernel: kernels.Kernel, work: Path, module_args: str, limit: float
) -> tuple[command.Output, list[Kept]]:
    """Run all states on that kernel. Raises BenchError if nothing whole comes back."""
    cases = [boot.ADAPT[bench](state.case) for state in states()]
    files = {
        "replay": benches.build("replay.c", work / "replay").read_bytes(),
        "cases.gz": gzip.compress(pack_all(cases), mtime=0),
        "ids": "".join(f"{case.id}\n" for case in cases).encode(),
    }
    output = command.run(
        *(bench, kernel, _COMMAND, work),
        files=files,
        settings={"ARGS": f"{_DUMP[bench]} {module_args}".strip()},
        limit=limit,
        scratch="entry",
    )
    return output, list(_kept(output.data.decode(errors="replace")))


def _kept(text: str) -> Iterator[Kept]:
    outcome: Outcome | None = None
    log: list[str] = []
    for line in text.splitlines():
        if line.startswith('{"id"'):
            if outcome:
                yield Kept(outcome, "\n".join(log))
            outcome, log = msgspec.json.decode(line, type=Outcome), []
            outcome = msgspec.structs.replace(outcome, exits=tuple(one.reduced() for one in outcome.exits))
        elif line != "@@log":
            log.append(line)
    if outcome:
        yield Kept(outcome, "\n".join(log))


def load(path: Path) -> tuple[Provenance, dict[str, Kept]]:
    """A results file of this list, by case."""
    head, *lines = open_results(path).splitlines()
    kept = (msgspec.json.decode(line, type=Kept) for line in lines)
    return msgspec.json.decode(head, type=Provenance), {one.outcome.id: one for one in kept}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab/entry_run.py", description="States at the edge of VM entry.")
    parser.add_argument("bench", choices=("svm", "vmx"))
    parser.add_argument("--kernel", nargs="+", default=[], metavar="SERIES")
    parser.add_argument("--module-args", default="")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--results", type=Path, default=ROOT / "lab" / "results" / "entry-states")
    options = parser.parse_args(arguments)
    work = (options.work or work_directory()).absolute()
    bundle = pack_all(state.case for state in states())
    status = 0
    try:
        chosen = kernels_for(options.bench, work, options.kernel)
    except NotReadyError as error:
        complain(str(error))
        return 3
    for kernel in chosen:
        try:
            said, kept = run(options.bench, kernel, work, options.module_args, 900)
        except benches.BenchError as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        for failure in said.failed:
            complain(f"{kernel.release}: {failure}")
        head = Provenance(
            vendor=options.bench,
            release=said.marks["release"],
            version=said.marks["version"],
            module=benches.BENCHES[options.bench].module or "",
            module_args=f"{_DUMP[options.bench]} {options.module_args}".strip(),
            parameters=said.parameters,
            bench=benches.version(options.bench),
            cpu=said.marks["cpu"],
            date=today(),
            cases=len(states()),
            outcomes=len(kept),
            bundle=hashlib.sha256(bundle).hexdigest(),
        )
        suffix = f"-{options.module_args.replace(' ', '-')}" if options.module_args else ""
        options.results.mkdir(parents=True, exist_ok=True)
        path = options.results / f"{options.bench}-{head.release}{suffix}.jsonl.gz"
        data = b"\n".join(msgspec.json.encode(value) for value in (head, *kept)) + b"\n"
        path.write_bytes(gzip.compress(data, mtime=0))
        sys.stdout.write(f"{kernel.release}: {len(kept)} of {head.cases} states, {said.seconds:.0f} s -> {path}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
