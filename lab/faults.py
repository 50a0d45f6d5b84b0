"""The tests of docs/emulator-faults.md, run on real kernels: what each program prints, and how it ends.

    python -m lab.faults svm --kernel 5.10 6.1 7.3       kvm-amd, under QEMU's TCG
    python -m lab.faults vmx --kernel 7.3                kvm-intel, under Bochs
    python -m lab.faults riscv64 --kernel 7.2            KVM of riscv64, under QEMU's TCG

One boot runs all families of the architecture. What they print goes to lab/results/faults/, from where
tools/make_emulator_faults.py takes it. Kernels are fetched by lab/run.py.
Exit status: 0; 1 if a kernel gave no results; 2 usage; 3 if something is missing here.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from kvmwhy.emulator.faults import FAMILIES, Family
from kvmwhy.reproduce.export.fault_test import program_of, write
from lab import benches, command, kernels
from lab.console import complain, say
from lab.outcome import today
from lab.ready import NotReadyError, kernels_for, work_directory

RESULTS: Final = Path(__file__).parent / "results" / "faults"
_ARCHITECTURE: Final = {"svm": "x86", "vmx": "x86", "riscv64": "riscv64"}
_LIMIT: Final = {"svm": 400.0, "vmx": 1500.0, "riscv64": 400.0}  # seconds for one kernel on a busy machine


class Ran(msgspec.Struct, frozen=True):
    """One program. ``program`` is the SHA-256 of its code, so that a result of an older one is seen."""

    program: str
    status: int
    printed: str


class Results(msgspec.Struct, frozen=True):
    """One boot: where it was, and what each family's program came to, by the family's id."""

    vendor: str
    release: str
    version: str
    bench: str
    cpu: str
    module_args: str
    date: str
    families: dict[str, Ran]


def families_of(bench: str) -> list[Family]:
    return [family for family in FAMILIES if family.arch == _ARCHITECTURE[bench]]


def digest(family: Family) -> str:
    """Of the program without the comment that it begins with."""
    return hashlib.sha256(write(family, "c").partition("*/")[2].encode()).hexdigest()


def build(family: Family, bench: str, work: Path) -> bytes:
    """The program, compiled for the bench's machine. Raises CalledProcessError."""
    directory = work / "faults"
    directory.mkdir(parents=True, exist_ok=True)
    source, program = directory / f"{program_of(family)}.c", directory / program_of(family)
    source.write_text(write(family, "c"))
    flags = ("-O2", "-static", "-Wall", "-Wextra", "-Werror")
    compiler = benches.BENCHES[bench].architecture.compiler
    subprocess.run([compiler, *flags, "-o", program, source], check=True)
    return program.read_bytes()


def run(bench: str, kernel: kernels.Kernel, work: Path, module_args: str = "") -> Results:
    """Boot it, and run all programs there. Raises BenchError or CalledProcessError."""
    families = families_of(bench)
    files = {f"tests/{family.id}": build(family, bench, work) for family in families}
    script = (
        "for t in /tests/*; do chmod +x $t; $t > /tmp/out 2>&1; s=$?;"
        ' echo "@ $(basename $t) $s"; sed "s/^/|/" /tmp/out; done'
    )
    # On a busy machine TCG is too slow for the kernel's check of its timer, which then ends the boot.
    settings, kernel_args = {"ARGS": module_args}, "no_timer_check" if bench == "svm" else ""
    output = command.run(
        *(bench, kernel, script, work),
        files=files,
        settings=settings,
        kernel_args=kernel_args,
        limit=_LIMIT[bench],
        scratch="faults",
    )
    ran: dict[str, Ran] = {}
    for part in output.data.decode(errors="replace").split("@ ")[1:]:
        head, *lines = part.splitlines()
        name, status = head.split()
        printed = "\n".join(line.removeprefix("|") for line in lines)
        family = next(family for family in families if family.id == name)
        ran[name] = Ran(digest(family), int(status), printed)
    if set(ran) != {family.id for family in families}:
        raise benches.BenchError(f"only {', '.join(ran) or 'none'} of {len(families)} programs gave a result")
    return Results(
        vendor=bench,
        release=output.marks["release"],
        version=output.marks["version"],
        bench=benches.version(bench),
        cpu=output.marks["cpu"],
        module_args=module_args,
        date=today(),
        families=ran,
    )


def kept() -> list[Results]:
    """All results in lab/results/faults/, by bench and kernel."""
    found = [msgspec.json.decode(path.read_bytes(), type=Results) for path in RESULTS.glob("*.json")]
    return sorted(found, key=lambda one: (one.vendor, kernels.version_of(one.release)))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="lab.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=tuple(_ARCHITECTURE))
    parser.add_argument("--kernel", nargs="+", default=[], metavar="SERIES", help="such as 6.1; or a whole release")
    parser.add_argument("--module-args", default="", help="of kvm-amd or kvm-intel, such as ept=0")
    parser.add_argument("--work", type=Path, default=work_directory(), help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    work = options.work.absolute()
    try:
        chosen = kernels_for(options.bench, work, options.kernel)
    except NotReadyError as error:
        complain(str(error))
        return 3
    status = 0
    for kernel in chosen:
        try:
            results = run(options.bench, kernel, work, options.module_args)
        except benches.BenchError as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        options.results.mkdir(parents=True, exist_ok=True)
        suffix = f"-{options.module_args.replace(' ', '-')}" if options.module_args else ""
        path = options.results / f"{options.bench}-{results.release}{suffix}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
        wrong = sum(one.status == 1 for one in results.families.values())
        say(f"{results.release}: {wrong} of {len(results.families)} families are wrong -> {path}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
