"""One sweep: boot a kernel on a bench, have it run a batch of probes, take their raw outcomes.

A form that ends the machine is found, named and left out, and the rest is asked again: ``sweep`` keeps a journal
in the work directory, so that an interrupted sweep goes on where it was.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from kvmwhy.probe.sweep_format import Probe, Raw, pack, parse_all
from lab import command
from lab.benches import BenchError, build
from lab.boot import COMMAND, last_case
from lab.kernels import Kernel

_KVM_ARGS: Final = "force_emulation_prefix=1"
_STEP: Final = 256  # as in sweep.c
LIMIT: Final = {"svm": 900.0, "vmx": 3000.0}
TIMEOUT_MS: Final = {"svm": 100, "vmx": 200}


class SweepError(RuntimeError):
    """The machine ended, or said nothing that can be read. ``last`` is the probe that it was at."""

    def __init__(self, message: str, last: int | None) -> None:
        super().__init__(message)
        self.last = last


class Swept(msgspec.Struct, frozen=True):
    """All that one boot said. ``killers``: probes that ended the machine and were left out."""

    release: str
    version: str
    cpu: str
    bench: str
    module_args: str
    date: str
    seconds: float
    rate: float  # probes a second, by the guest's own clock
    batch: str  # SHA-256 of what was asked
    parameters: dict[str, str]
    raw: dict[int, Raw]  # by the probe's number
    killers: tuple[int, ...] = ()


def sweep(
    bench: str,
    kernel: Kernel,
    probes: Sequence[Probe],
    work: Path,
    *,
    module_args: str = "",
    turn: int = 0,
    again: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Swept:
    """Run all probes. ``turn`` numbers repetitions, each with a journal of its own; ``again``: without one.

    Raises SweepError.
    """
    batch = pack(probes, timeout_ms=TIMEOUT_MS[bench])
    digest = hashlib.sha256(batch).hexdigest()
    suffix = "".join(f"-{part}" for part in (module_args.replace(" ", "-"), str(turn)) if part)
    journal = work / "sweeps" / f"{bench}-{digest[:12]}-{kernel.release}{suffix}.json.gz"
    if journal.exists() and not again:
        return msgspec.json.decode(gzip.decompress(journal.read_bytes()), type=Swept)
    known = journal.with_suffix(".killers")
    killers = {int(line) for line in known.read_text().split()} if known.exists() else set()
    journal.parent.mkdir(parents=True, exist_ok=True)
    while True:
        wanted = [n for n in range(len(probes)) if n not in killers]
        try:
            found = _boot(bench, kernel, probes, wanted, work, module_args=module_args)
        except SweepError as error:
            if error.last is None:
                raise
            culprit = _culprit(
                bench, kernel, probes, wanted[error.last : error.last + _STEP], work, module_args=module_args
            )
            if culprit is None:
                raise
            form = probes[culprit].form
            say(f"{kernel.release}: {form.mode} {form.code.hex(' ')} ends the machine: it is left out")
            killers.add(culprit)
            known.write_text("\n".join(map(str, sorted(killers))))
            continue
        swept = msgspec.structs.replace(found, killers=tuple(sorted(killers)), batch=digest)
        if not again:
            journal.write_bytes(gzip.compress(msgspec.json.encode(swept), mtime=0))
        return swept


def journals(work: Path, probes: Sequence[Probe]) -> Iterator[tuple[str, Swept]]:
    """The bench and what was said, of every finished sweep of exactly these probes."""
    for bench, timeout in TIMEOUT_MS.items():
        digest = hashlib.sha256(pack(probes, timeout_ms=timeout)).hexdigest()
        for path in sorted((work / "sweeps").glob(f"{bench}-{digest[:12]}-*.json.gz")):
            yield bench, msgspec.json.decode(gzip.decompress(path.read_bytes()), type=Swept)


def _culprit(
    bench: str,
    kernel: Kernel,
    probes: Sequence[Probe],
    suspects: Sequence[int],
    work: Path,
    *,
    module_args: str,
) -> int | None:
    """Which of them ends the machine, asked alone; None if none does this time."""
    try:
        _boot(bench, kernel, probes, suspects, work, module_args=module_args, step=True)
    except SweepError as error:
        return None if error.last is None else suspects[error.last]
    return None


def _boot(
    bench: str,
    kernel: Kernel,
    probes: Sequence[Probe],
    wanted: Sequence[int],
    work: Path,
    *,
    module_args: str,
    step: bool = False,
) -> Swept:
    batch = pack([probes[n] for n in wanted], timeout_ms=TIMEOUT_MS[bench], step=step)
    files = {
        "replay": build("sweep.c", work / "sweep").read_bytes(),
        "cases.gz": gzip.compress(batch, mtime=0),
    }
    try:
        output = command.run(
            *(bench, kernel, COMMAND, work),
            files=files,
            settings={"ARGS": module_args, "KVM_ARGS": _KVM_ARGS},
            limit=LIMIT[bench],
            scratch="atlas",
        )
    except command.StoppedError as error:
        raise SweepError(str(error), last_case(error.text)) from None
    except BenchError as error:
        raise SweepError(str(error), None) from None
    found = parse_all(output.data.splitlines())
    if not found:
        raise SweepError(f"no outcomes: {'; '.join(output.failed) or 'the program printed nothing'}", None)
    marks = output.marks
    took = float(marks["ran"]) - float(marks["ready"])
    return Swept(
        release=marks["release"],
        version=marks["version"],
        cpu=marks["cpu"],
        bench=bench,
        module_args=module_args,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        seconds=round(output.seconds, 1),
        rate=round(len(found) / max(0.001, took), 1),
        batch="",
        parameters=output.parameters,
        raw={wanted[number]: raw for number, raw in found.items()},
    )
