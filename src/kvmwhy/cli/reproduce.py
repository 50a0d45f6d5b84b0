"""``kvmwhy reproduce``: the failures of a log, run again; and handed over as a test."""

from __future__ import annotations

import os
import platform
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, NamedTuple, cast

import msgspec

from kvmwhy.cli.other_host import refusal
from kvmwhy.cli.output import complain, counted, show
from kvmwhy.cli.reproduced import print_outcome, source_of, write_json
from kvmwhy.cli.status import BAD_INPUT, DAMAGED, DONE, NOT_PERMITTED, NOTHING
from kvmwhy.diagnosis.facts import gather
from kvmwhy.machine import KvmMachine, Machine, MachineError, NoKvmError, NotPermittedError
from kvmwhy.pipeline import identity, records
from kvmwhy.record import Failure
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe
from kvmwhy.reproduce import Cannot, Outcome, Plan, Where, compare, impossible, plan, run
from kvmwhy.reproduce.export import ExportError, Format, export
from kvmwhy.reproduce.matrix import Vendor

_CHUNK: Final = 1 << 20
_MODULES: Final = {"kvm_intel": "vmx", "kvm_amd": "svm", "kvm_pvm": "pvm"}
_NEWEST: Final = "7.3"
_LAB_LIMIT: Final = 300.0  # seconds for one kernel


class ReproduceOptions(NamedTuple):
    """What the command line asks for."""

    file: str
    on: str  # auto | kvm | model
    kernel: str | None
    vendor: str | None
    lab: bool
    matrix: str | None
    export: Format | None
    minimise: bool
    number: int | None
    limit: int
    as_json: bool


class Bench(NamedTuple):
    """Where to run: an empty machine each time, and what to call it."""

    make: Callable[[], Machine]
    where: Where


def run_command(wish: ReproduceOptions) -> int:
    """Reproduce; return the exit status."""
    try:
        failures = _failures(wish)
    except PermissionError:
        complain(f"{wish.file}: not permitted to read it")
        return NOT_PERMITTED
    except (OSError, ValueError) as error:
        complain(f"{wish.file}: {(getattr(error, 'strerror', None) or str(error)).lower()}")
        return BAD_INPUT
    if not failures:
        complain(f"no KVM failure found in {'the input' if wish.file == '-' else wish.file}")
        return NOTHING
    try:
        if wish.export:
            return _export(wish, wish.export, failures)
        statuses = [_one(wish, failure, n) for n, failure in enumerate(failures)]
    except (NoKvmError, NotPermittedError) as error:
        complain(str(error))
        return NOT_PERMITTED
    except (MachineError, ExportError) as error:
        complain(str(error))
        return BAD_INPUT
    if all(status == NOTHING for status in statuses):
        return NOTHING
    worst = max((status for status in statuses if status != NOTHING), default=DONE)
    from kvmwhy.cli.damage import lost_what_matters

    return DAMAGED if worst == DONE and any(map(lost_what_matters, failures)) else worst


# -- reading -------------------------------------------------------------------------------------------


def _failures(wish: ReproduceOptions) -> list[Failure]:
    """Distinct failures, in order; one of them if a number was given. Raises OSError."""
    distinct: dict[bytes, Failure] = {}
    if wish.file == "-":
        _collect(sys.stdin.buffer, None, distinct)
    else:
        kind = os.stat(wish.file).st_mode
        if stat.S_ISDIR(kind):
            raise ValueError("is a directory; name the files in it")
        if stat.S_ISCHR(kind) and not wish.file.startswith(("/dev/stdin", "/dev/fd/")):
            raise ValueError("is a device, not a file; nothing of it is read")
        with open(wish.file, "rb") as stream:
            _collect(stream, wish.file, distinct)
    failures = list(distinct.values())
    if wish.number is not None:
        if wish.number > len(failures):
            raise ValueError(f"it has {len(failures)} distinct failures, no number {wish.number}")
        return [failures[wish.number - 1]]
    if len(failures) > wish.limit:
        complain(f"not run: {counted(len(failures) - wish.limit, 'more failure')} unlike these; see --limit")
    return failures[: wish.limit]


def _collect(stream: BinaryIO, path: str | None, distinct: dict[bytes, Failure]) -> None:
    for record in records(iter(lambda: stream.read(_CHUNK), b""), path, complain):
        distinct.setdefault(identity(record.failure), record.failure)


# -- machines ------------------------------------------------------------------------------------------


def _bench(wish: ReproduceOptions, failure: Failure) -> Bench:
    """/dev/kvm if it can be used and no kernel was chosen; else the model of the report's kernel and vendor."""
    modelled = wish.on == "model" or (wish.on == "auto" and (wish.kernel or wish.vendor))
    if not modelled:
        try:
            KvmMachine().close()
        except (NoKvmError, NotPermittedError):
            if wish.on == "kvm":
                raise
        else:
            return Bench(KvmMachine, _host())
    from kvmwhy.machine.model import Model

    kernel = wish.kernel or failure.host.kernel or _NEWEST
    kernel = ".".join(kernel.split(".")[:2])
    shown = gather(failure).vendor.vendor
    vendor = cast("Vendor", wish.vendor or (shown if shown in {"vmx", "svm"} else "vmx"))
    try:
        Model(kernel, vendor).close()
    except ValueError:
        if wish.kernel:
            raise
        kernel = _NEWEST
    return Bench(lambda: Model(kernel, vendor), Where(f"the model of {kernel}, {vendor}", kernel, vendor))


def _host() -> Where:
    vendor = next((v for name, v in _MODULES.items() if os.path.isdir(f"/sys/module/{name}")), None)
    module = next((name for name, v in _MODULES.items() if v == vendor), "KVM")
    return Where(f"/dev/kvm of this host, {platform.release()}, {module}", platform.release(), vendor)


# -- running -------------------------------------------------------------------------------------------


def _one(wish: ReproduceOptions, failure: Failure, number: int) -> int:
    if number and not wish.as_json:
        show([Line(), Line("─" * 60, "dim"), Line()])
    if failure.arch not in {None, "x86"}:
        return _access(wish, failure)
    planned = plan(failure)
    if isinstance(planned, Cannot):
        print_outcome(failure, impossible(planned), as_json=wish.as_json)
        return NOTHING
    if wish.matrix:
        return _matrix(wish, failure, planned)
    if wish.lab:
        return _lab(wish, failure, planned)
    bench = _bench(wish, failure)
    extra: list[str] = []
    if wish.minimise:
        planned, extra = _minimise(planned, bench)
    with bench.make() as machine:
        outcome = compare(planned, run(planned, machine), bench.where)
    print_outcome(failure, outcome, as_json=wish.as_json, extra=extra)
    return DONE


def _access(wish: ReproduceOptions, failure: Failure) -> int:
    """A failure of another architecture than x86: on a host that has it. Raises MachineError, ValueError."""
    from kvmwhy.reproduce.access import plan_access, reproduce_access

    access = plan_access(failure)
    if isinstance(access, Cannot):
        print_outcome(failure, impossible(access), as_json=wish.as_json)
        return NOTHING
    of_x86 = (
        *(("--on model", wish.on == "model"), ("--kernel", wish.kernel), ("--vendor", wish.vendor)),
        *(("--lab", wish.lab), ("--matrix", wish.matrix), ("--minimise", wish.minimise)),
    )
    if (given := refusal(of_x86, "x86", access.arch)) is not None:
        complain(given)
        return BAD_INPUT
    where = Where(f"/dev/kvm of this host, {platform.release()}, {access.arch}", platform.release())
    print_outcome(failure, reproduce_access(access, where), as_json=wish.as_json)
    return DONE


def _minimise(plan: Plan, bench: Bench) -> tuple[Plan, list[str]]:
    from kvmwhy.reproduce.minimise import minimise

    with bench.make() as machine:
        outcome = compare(plan, run(plan, machine), bench.where)
    if outcome.status != "reproduced":
        return plan, ["nothing was left out, as the failure does not show here"]
    smaller = minimise(plan, bench.make)
    return smaller.plan, [f"{len(smaller.dropped)} things the failure does not need: {', '.join(smaller.dropped)}"]


def _export(wish: ReproduceOptions, form: Format, failures: list[Failure]) -> int:
    """The first failure that a guest can be made for, as a file on stdout."""
    for failure in failures:
        planned = _plan_of_x86(failure)
        if isinstance(planned, Cannot):
            continue
        outcome = None
        if wish.minimise or form == "report":
            bench = _bench(wish, failure)
            if wish.minimise:
                planned, _ = _minimise(planned, bench)
            with bench.make() as machine:
                outcome = compare(planned, run(planned, machine), bench.where)
        sys.stdout.write(export(form, planned, failure, outcome))
        return DONE
    cannot = _plan_of_x86(failures[0])
    complain(cannot.why if isinstance(cannot, Cannot) else "nothing to write")
    return NOTHING


def _plan_of_x86(failure: Failure) -> Plan | Cannot:
    if failure.arch not in {None, "x86"}:
        return Cannot(f"the failure is of {failure.arch}, and guests are exported for x86 alone")
    return plan(failure)


def _matrix(wish: ReproduceOptions, failure: Failure, plan: Plan) -> int:
    from kvmwhy.reproduce.matrix import answer, matrix, vendors_of

    vendors = (cast("Vendor", wish.vendor),) if wish.vendor else vendors_of(plan)
    releases = {"releases": (wish.kernel,)} if wish.kernel else {}
    spans = list(matrix(plan, vendors, **releases))
    text = f"On the modelled kernels, {answer(spans)}."
    if wish.as_json:
        rows = [{**span._asdict(), "status": "fails" if span.reproduced else "works"} for span in spans]
        write_json({"schema": 1, "status": "matrix", "answer": text, "spans": rows, "failure": source_of(failure)})
        return DONE
    lines = [Line(safe(text), "answer"), Line()]
    for span in spans:
        mark = "fails" if span.reproduced else "     "
        label = f"{span.vendor}  {span.releases:<11} {mark}  "
        lines.append(Line(safe(span.what), "bad" if span.reproduced else "good", label, 2))
    show(lines)
    return DONE


# -- the lab -------------------------------------------------------------------------------------------


def _lab(wish: ReproduceOptions, failure: Failure, plan: Plan) -> int:
    """The same guest on every real kernel that the lab has here."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "lab" / "boot.py").is_file():
        complain("--lab needs a checkout of kvmwhy: lab/ is not part of the installed package")
        return NOT_PERMITTED
    if str(root) not in sys.path:
        sys.path.append(str(root))
    from lab import benches, kernels

    shown = plan.expected.vendor
    bench: Literal["svm", "vmx"] = "vmx" if (wish.vendor or shown) == "vmx" else "svm"
    if lacks := benches.missing(bench):
        complain(f"--lab needs {', '.join(lacks)}: apt-get install --no-install-recommends {' '.join(lacks.values())}")
        return NOT_PERMITTED
    work = Path(os.environ.get("KVMWHY_LAB") or Path.home() / ".cache" / "kvmwhy-lab")
    try:
        chosen = kernels.choose(work, [wish.kernel] if wish.kernel else [])
    except FileNotFoundError as error:
        complain(str(error))
        return NOT_PERMITTED
    if not chosen:
        complain(f"--lab finds no kernels in {work}: run `python lab/run.py fetch` first, or set KVMWHY_LAB")
        return NOT_PERMITTED
    fails: dict[bool, list[str]] = {True: [], False: []}
    for kernel in chosen:
        try:
            outcome = in_lab(plan, bench, kernel, work)
        except (benches.BenchError, OSError, ValueError) as error:
            complain(f"{kernel.release}: {error}")
            continue
        fails[outcome.status == "reproduced"].append(kernel.release)
        print_outcome(failure, outcome, as_json=wish.as_json)
    if not wish.as_json:
        text = f"fails on {', '.join(fails[True]) or 'none'}; not on {', '.join(fails[False]) or 'none'}"
        show([Line(), Line(f"In the lab ({bench}): {text}.", "answer")])
    return DONE


def in_lab(plan: Plan, bench: str, kernel: Any, work: Path) -> Outcome:
    """One boot for one guest. Raises lab.benches.BenchError, OSError, ValueError."""
    from kvmwhy.reproduce.lab import ended_of, to_case
    from lab import boot
    from lab.outcome import Outcome as LabOutcome

    where = Where(f"{kernel.release} in the lab, {bench}", kernel.release, bench)
    output = boot.boot(bench, kernel, [to_case(plan)], work, limit=_LAB_LIMIT)
    ended = ended_of(plan, msgspec.json.decode(output.data.splitlines()[0], type=LabOutcome))
    return compare(plan, ended, where)
