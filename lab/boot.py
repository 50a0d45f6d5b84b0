"""Boots a kernel on a bench of x86, has it run the cases, and takes the outcomes."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kvmwhy.machine.x86.state import replace
from lab import command
from lab.benches import BenchError, build
from lab.cases import Case, pack_all
from lab.kernels import Kernel

COMMAND: Final = "zcat /cases.gz > /cases && /replay /cases '' /dev/console"
_CASE: Final = re.compile(r"^@@case (\d+)$", re.MULTILINE)


def _for_tcg(case: Case) -> Case:
    """QEMU aborts when a 32-bit TSS that is busy, as VMRUN's is, gives it a stack: let it be available.

    An AMD CPU and its KVM do not look at this bit. Intel's CPUs insist on it.
    """
    if case.facts and case.facts.mode == "prot32" and case.sregs.tr.type == 11:
        return replace(case, sregs=replace(case.sregs, tr=replace(case.sregs.tr, type=9)))
    return case


ADAPT: Final[dict[str, Callable[[Case], Case]]] = {"svm": _for_tcg, "vmx": lambda case: case}


def last_case(text: str) -> int | None:
    """The number that the program announced last on the console: the machine stopped there, or soon after."""
    cases = _CASE.findall(text)
    return int(cases[-1]) if cases else None


def boot(
    bench: str, kernel: Kernel, cases: Sequence[Case], work: Path, *, module_args: str = "", limit: float
) -> command.Output:
    """Run the cases on that kernel. Raises BenchError if no outcomes come within ``limit`` seconds."""
    files = {
        "replay": build("replay.c", work / "replay").read_bytes(),
        "cases.gz": gzip.compress(pack_all(map(ADAPT[bench], cases)), mtime=0),
    }
    try:
        output = command.run(
            *(bench, kernel, COMMAND, work),
            files=files,
            settings={"ARGS": module_args},
            limit=limit,
            scratch="cases",
        )
    except command.StoppedError as error:
        last = last_case(error.text)
        raise BenchError(f"{error}{f'; its case was {cases[last].id}' if last is not None else ''}") from None
    if not output.data:
        raise BenchError(f"no outcomes: {'; '.join(output.failed) or 'replay printed nothing'}")
    return output
