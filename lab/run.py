"""The lab, in one command.

    python lab/run.py fetch [arm64|riscv64] [--kernel 6.1 ...]   Debian's newest kernel of each series
    python lab/run.py svm   [--kernel 5.10 6.1]    the cases on kvm-amd, under QEMU's TCG
    python lab/run.py vmx   [--kernel 6.1]         the cases on kvm-intel, under Bochs
    python lab/run.py arm64 [--kernel 6.1 6.12 7.3]   every load, store and maintenance of A64, under QEMU's TCG
    python lab/run.py riscv64 [--kernel 6.12 7.2]     the same of RISC-V
    python lab/run.py here                         the cases on this host's /dev/kvm
    python lab/run.py command arm64 --kernel 6.12 --run 'uname -a' [--root DIR]    any command, in any of the machines
    python lab/run.py summary                      how often the kernels agree, out of results/

Outcomes of svm and vmx go to lab/results/, downloads and scratch files to $KVMWHY_LAB or ~/.cache/kvmwhy-lab; so do all
other outcomes. What `python -m lab.trap_atlas write` makes of arm64's and riscv64's is in the package.
Exit status: 0; 1 if a kernel gave no outcomes, or a command failed; 2 usage; 3 if something is missing here; 4 if a
mirror does not answer, or has no such kernel.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # started as a script, so that lab/ is there instead
    sys.path[0] = str(ROOT)

from lab import benches, boot, kernels  # noqa: E402
from lab import command as lab_command  # noqa: E402
from lab.architectures import ARCHITECTURES, X86, Architecture  # noqa: E402
from lab.cases import Case, pack_all  # noqa: E402
from lab.catalogue import catalogue  # noqa: E402
from lab.console import complain, say  # noqa: E402
from lab.outcome import Provenance, today  # noqa: E402
from lab.ready import NotReadyError, kernels_for, work_directory  # noqa: E402

_LIMIT: Final = {"svm": 300.0, "vmx": 900.0}  # seconds for one kernel
_PLAIN_LIMIT: Final = 300_000  # bytes; a larger results file is compressed


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    try:
        return _run(options)
    except NotReadyError as error:
        complain(str(error))
        return 3


def _run(options: argparse.Namespace) -> int:
    """Raises NotReadyError."""
    match options.command:
        case "fetch":
            return fetch(options.work, options.kernel, ARCHITECTURES[options.where or "x86"], options.mirror)
        case "arm64" | "riscv64":
            return _traps(options)
        case "command":
            return _command(options)
        case "here":
            return _here(options)
        case "summary":
            from lab.compare import summary

            sys.stdout.write(summary(sorted(options.results.glob("*.jsonl*"))))
            return 0
    return _bench(options)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lab/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("fetch", "svm", "vmx", "arm64", "riscv64", "here", "summary", "command"))
    parser.add_argument("where", nargs="?", help="of `fetch`, an architecture; of `command`, a bench")
    parser.add_argument("--kernel", nargs="+", default=[], metavar="SERIES", help="such as 6.1; or a whole release")
    parser.add_argument("--module-args", default="", help="of kvm-amd or kvm-intel, such as ept=0")
    parser.add_argument("--only", default="", metavar="PREFIX", help="cases whose id starts so")
    parser.add_argument("--work", type=Path, default=work_directory(), help="default: %(default)s")
    parser.add_argument(
        "--results", type=Path, help="default: lab/results for svm and vmx, else results/ in the work directory"
    )
    parser.add_argument("--run", default="", metavar="COMMAND", help="of `command`: what busybox's shell is given")
    parser.add_argument("--root", type=Path, help="of `command`: a directory, the machine's root file system")
    parser.add_argument("--memory", type=int, default=512, metavar="MB", help="of `command` (default: %(default)s)")
    parser.add_argument("--kernel-args", default="", help="of `command`: for the kernel's command line")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="of `command`")
    parser.add_argument("--mirror", default=kernels.MIRROR, help="default: %(default)s")
    options = parser.parse_args(arguments)
    known = {"fetch": (None, *ARCHITECTURES), "command": tuple(benches.BENCHES)}.get(options.command, (None,))
    if options.where not in known:
        parser.error(f"{options.command}: one of {', '.join(name for name in known if name) or 'nothing'}")
    options.work = options.work.absolute()
    if options.results is None:
        options.results = ROOT / "lab" / "results" if options.command in _LIMIT else options.work / "results"
    return options


def fetch(work: Path, wanted: Sequence[str], architecture: Architecture = X86, mirror: str = kernels.MIRROR) -> int:
    """Fetch kernels and say how it went; the exit status."""
    if not Path(kernels.KEYRING).exists():
        complain(f"no {kernels.KEYRING}: apt-get install debian-archive-keyring")
        return 3
    steps = []
    for step in kernels.fetch(work, wanted, mirror, architecture):
        steps.append(step)
        (say if step.result == "done" else complain)(step.text)
    return kernels.status_of(steps)


def _command(options: argparse.Namespace) -> int:
    """Raises NotReadyError."""
    status = 0
    for kernel in kernels_for(options.where, options.work, options.kernel):
        try:
            output = lab_command.run(
                *(options.where, kernel, options.run, options.work),
                root=options.root,
                settings={"ARGS": options.module_args},
                kernel_args=options.kernel_args,
                memory=options.memory,
                limit=options.limit,
            )
        except benches.BenchError as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        sys.stdout.buffer.write(output.data)
        sys.stdout.flush()
        for failure in output.failed:
            complain(f"{kernel.release}: {failure}")
        complain(f"{kernel.release}: status {output.status}, {output.seconds:.1f} s")
        status = status or min(1, output.status)
    return status


def _bench(options: argparse.Namespace) -> int:
    """Raises NotReadyError."""
    chosen = kernels_for(options.command, options.work, options.kernel)
    cases = _cases(options)
    bundle = pack_all(cases)
    status = 0
    for kernel in chosen:
        try:
            output = boot.boot(
                *(options.command, kernel, cases, options.work),
                module_args=options.module_args,
                limit=_LIMIT[options.command],
            )
        except (benches.BenchError, FileNotFoundError) as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        for failure in output.failed:
            complain(f"{kernel.release}: {failure}")
        head = Provenance(
            vendor=options.command,
            release=output.marks["release"],
            version=output.marks["version"],
            module=benches.BENCHES[options.command].module or "",
            module_args=options.module_args,
            parameters=output.parameters,
            bench=benches.version(options.command),
            cpu=output.marks["cpu"],
            date=today(),
            cases=len(cases),
            outcomes=output.data.count(b"\n"),
            bundle=hashlib.sha256(bundle).hexdigest(),
        )
        path = _save(options, head, output.data)
        up = {name: float(output.marks[name]) for name in ("init", "ready", "ran")}
        rate = head.outcomes / max(0.001, up["ran"] - up["ready"])
        say(
            f"{kernel.release}: {head.outcomes} of {head.cases} cases, {output.seconds:.1f} s"
            f" (up to /dev/kvm {up['ready']:.1f}, {rate:.0f} cases/s by its own clock) -> {path}"
        )
    return status


def _traps(options: argparse.Namespace) -> int:
    """Raises NotReadyError."""
    from lab import traps

    bench = options.command
    chosen = kernels_for(bench, options.work, options.kernel)
    forms, setups = traps.FORMS[bench](), traps.SETUPS[bench]
    status = 0
    for kernel in chosen:
        try:
            output = traps.ask(bench, kernel, forms, setups, options.work)
        except benches.BenchError as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        head = Provenance(
            vendor=bench,
            release=output.marks["release"],
            version=output.marks["version"],
            module=benches.BENCHES[bench].module or "",
            module_args="",
            parameters=output.parameters,
            bench=benches.version(bench),
            cpu=output.marks["cpu"],
            date=today(),
            cases=len(forms) * len(setups),
            outcomes=output.data.count(b"\n"),
            bundle=hashlib.sha256(traps.words_of(forms)).hexdigest(),
        )
        path = _save(options, head, output.data, traps.bench_suffix(head.bench))
        say(f"{head.release}: {head.outcomes} of {head.cases} answers, {output.seconds:.1f} s -> {path}")
        if head.outcomes != head.cases:
            complain(f"{kernel.release}: {'; '.join(output.failed) or 'some answers are missing'}")
            status = 1
    return status


def _here(options: argparse.Namespace) -> int:
    if not Path("/dev/kvm").exists():
        complain("no /dev/kvm")
        return 3
    cases = _cases(options)
    bundle = pack_all(cases)
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "cases"
    path.write_bytes(bundle)
    started = time.monotonic()
    replay = benches.build("replay.c", options.work / "replay")
    ran = subprocess.run([replay, path], stdout=subprocess.PIPE, check=False)
    if ran.returncode:
        return 3
    names = [path.name for path in sorted(Path("/sys/module").glob("kvm_*"))]
    head = Provenance(
        vendor="native",
        release=platform.release(),
        version=platform.version(),
        module=" ".join(names) or "built in",
        module_args="",
        parameters=_parameters(),
        bench="this host",
        cpu=_cpu_name(),
        date=today(),
        cases=len(cases),
        outcomes=ran.stdout.count(b"\n"),
        bundle=hashlib.sha256(bundle).hexdigest(),
    )
    saved = _save(options, head, ran.stdout)
    say(f"{head.release}: {head.outcomes} of {head.cases} cases, {time.monotonic() - started:.1f} s -> {saved}")
    return 0


def _cases(options: argparse.Namespace) -> tuple[Case, ...]:
    return tuple(case for case in catalogue() if case.id.startswith(options.only))


def _save(options: argparse.Namespace, head: Provenance, outcomes: bytes, suffix: str = "") -> Path:
    data = msgspec.json.encode(head) + b"\n" + outcomes
    options.results.mkdir(parents=True, exist_ok=True)
    suffix += f"-{head.module_args.replace(' ', '-')}" if head.module_args else ""
    plain: Path = options.results / f"{head.vendor}-{head.release}{suffix}.jsonl"
    packed = plain.with_name(plain.name + ".gz")
    for old in (plain, packed):
        old.unlink(missing_ok=True)
    if len(data) <= _PLAIN_LIMIT:
        plain.write_bytes(data)
        return plain
    packed.write_bytes(gzip.compress(data, mtime=0))
    return packed


def _parameters() -> dict[str, str]:
    found = {}
    for path in sorted(Path("/sys/module").glob("kvm*/parameters/*")):
        try:
            found[f"{path.parts[3]}.{path.name}"] = path.read_text().strip()
        except OSError:
            continue
    return found


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        complain(str(error))
        sys.exit(3)
