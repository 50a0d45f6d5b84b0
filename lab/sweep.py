"""One sweep: boot a kernel on a bench, have it run a batch of probes, take their raw outcomes.

A form that ends the machine is found, named and left out, and the rest is asked again: ``sweep`` keeps a journal
in the work directory, so that an interrupted sweep goes on where it was.
"""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from kvmwhy.probe.sweep_format import Probe, Raw, pack, parse_all
from lab.boot import HERE, VENDOR_MODULE, _bochs, _cpio, _qemu, build
from lab.kernels import Kernel

_KVM_ARGS: Final = "force_emulation_prefix=1"
_CASE: Final = re.compile(r"^@@case (\d+)$", re.MULTILINE)
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
    scratch = work / f"{bench}-atlas" / kernel.release
    scratch.mkdir(parents=True, exist_ok=True)
    batch = pack([probes[n] for n in wanted], timeout_ms=TIMEOUT_MS[bench], step=step)
    modules = kernel.modules(VENDOR_MODULE[bench])
    config = {
        "MODULES": " ".join(path.stem for path in modules),
        "ARGS": module_args,
        "KVM_ARGS": _KVM_ARGS,
        "DRAIN": "4" if bench == "vmx" else "0",
    }
    files = {
        "init": (HERE / "init").read_bytes(),
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        "replay": build("sweep.c", work / "sweep").read_bytes(),
        "cases.gz": gzip.compress(batch, mtime=0),
        "lab.conf": "".join(f"{key}='{value}'\n" for key, value in config.items()).encode(),
        **{f"modules/{path.name}": path.read_bytes() for path in modules},
    }
    initrd = scratch / "initrd"
    initrd.write_bytes(_cpio(files))
    start = time.monotonic()
    limit = LIMIT[bench]
    text = _qemu(kernel, initrd, limit) if bench == "svm" else _bochs(kernel, initrd, scratch, limit)
    seconds = time.monotonic() - start
    (scratch / "serial.txt").write_text(text)
    return _understand(text, wanted, scratch / "serial.txt", bench=bench, module_args=module_args, seconds=seconds)


def _understand(
    text: str, wanted: Sequence[int], where: Path, *, bench: str, module_args: str, seconds: float
) -> Swept:
    marks: dict[str, str] = {}
    parameters: dict[str, str] = {}
    encoded: list[str] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "@@parameter":
            key, _, setting = value.partition("=")
            parameters[key] = setting
        elif name.startswith("@@"):
            marks[name[2:]] = value
        elif "outcomes" in marks and "end" not in marks:
            encoded.append(line)
    if "end" not in marks:
        cases = _CASE.findall(text)
        last = next(reversed(marks), "not even init")
        raise SweepError(
            f"it stopped after {seconds:.0f} s; the last it said was {last} {marks.get(last, '')}; see {where}",
            int(cases[-1]) if cases else None,
        )
    try:
        lines = gzip.decompress(base64.b64decode("".join(encoded))).splitlines()
    except (ValueError, EOFError, OSError) as error:
        raise SweepError(f"the outcomes were torn on their way: {error}; see {where}", None) from None
    found = parse_all(lines)
    if not found:
        raise SweepError(f"no outcomes: {marks.get('failed', 'the program printed nothing')}; see {where}", None)
    took = float(marks["replayed"]) - float(marks["ready"])
    return Swept(
        release=marks["release"],
        version=marks["version"],
        cpu=marks["cpu"],
        bench=bench,
        module_args=module_args,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        seconds=round(seconds, 1),
        rate=round(len(found) / max(0.001, took), 1),
        batch="",
        parameters=parameters,
        raw={wanted[number]: raw for number, raw in found.items()},
    )
