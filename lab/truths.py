"""Runs the guests of tests/guests under QEMU, in a kernel of the lab, and keeps what QEMU, trace and kernel say.

    python lab/truths.py svm|vmx [--kernel 6.1 …] [--module-args unrestricted_guest=0] [--only NAME …] [--target DIR]

Each guest fails in a way that is known, since it was made to. It gets what QEMU printed (vmm.log), the last events of
an instance of tracefs (trace.txt) and what the kernel logged meanwhile (dmesg.txt). Scenarios of the host are run
beside one of the guests: RAM in a file that is truncated, a pool of huge pages that runs out, a limit of memory.
Exit status: 0; 1 if a kernel gave nothing; 3 if something is missing here.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [os.fspath(ROOT), os.fspath(ROOT / "tests")]

from lab import benches, command, kernels  # noqa: E402
from lab.console import complain  # noqa: E402
from lab.outcome import today  # noqa: E402
from lab.ready import NotReadyError, kernels_for, work_directory  # noqa: E402

if TYPE_CHECKING:
    from guests.wild import Wild

QEMU: Final = "/usr/bin/qemu-system-x86_64"
ROMS: Final = ("kvmvapic.bin",)  # QEMU loads it for every PC
_DATA: Final = "/usr/share/qemu"
_LIBRARIES: Final = "lib/x86_64-linux-gnu"
LIMIT: Final = {"svm": 600.0, "vmx": 1500.0}  # seconds for one kernel
_EVENTS, _LINES = 30, 120  # at most, of a trace and of a log
# What ends a vCPU's run for good, or goes on for ever without KVM's VMM being told.
_FAILS: Final = ("INTERNAL_ERROR", "KVM_EXIT_SHUTDOWN", "FAIL_ENTRY", "reason error", ") failed")
_KILLED: Final = "Killed"  # by timeout(1), before it said anything
SECONDS: Final = {"svm": 6, "vmx": 12}  # for one guest, by the clock of the machine

# One guest after the other. run.sh has a line for each.
_COMMAND: Final = r"""
mkdir -p /out /huge /cgroup
T=/sys/kernel/tracing
echo never > /sys/kernel/mm/transparent_hugepage/enabled  # one fault for each page
EVENTS="kvm_entry kvm_exit kvm_userspace_exit kvm_emulate_insn kvm_inj_exception kvm_mmio kvm_page_fault"
EVENTS="$EVENTS kvm_smm_transition"

begin() {  # NAME
    echo "@@guest $1" > /dev/console
    O=/out/$1; I=$T/instances/$1; mkdir -p "$O" "$I"
    dmesg -c > /dev/null
    for event in $EVENTS; do [ -d "$I/events/kvm/$event" ] && echo 1 > "$I/events/kvm/$event/enable"; done
    echo 1 > "$I/events/kvmmmu/kvm_mmu_walker_error/enable"
}
end() {
    echo 0 > "$I/tracing_on"; echo 0 > "$I/events/enable"
    tail -n 4000 "$I/trace" > "$O/trace.txt"; rmdir "$I"
    dmesg > "$O/dmesg.txt"
    head -n 400 /tmp/log > "$O/vmm.log"
}
guest() {  # NAME IMAGE MEMORY SMP OPTION…
    name=$1 image=$2 memory=$3 smp=$4; shift 4
    begin "$name"
    # shellcheck disable=SC2086
    timeout -s KILL "$SECONDS_EACH" $UNDER qemu-system-x86_64 -L /roms -accel kvm -cpu host -machine pc -smp "$smp" \
        -m "$memory" -nodefaults -no-user-config -display none -device VGA,romfile= -device pvpanic \
        -action reboot=shutdown,shutdown=poweroff,panic=pause -bios "/guests/$image.bin" "$@" \
        < /dev/null > /tmp/log 2>&1
    end
}
. /run.sh > /dev/console
tar -C / -c out
"""

# What the host does to a running guest. UNDER is a command in front of QEMU's.
_HOST_ACTS: Final = {
    "ram-truncated": (
        "touches-all",
        "the file behind the guest's RAM is truncated while it runs",
        """(sleep {half}; : > /tmp/ram) & guest ram-truncated touches-all 64M 1 \
-object memory-backend-file,id=ram,size=64M,mem-path=/tmp/ram,share=on -machine memory-backend=ram
wait; rm /tmp/ram""",
    ),
    "hugetlb-exhausted": (
        "touches-all",
        "the pool of huge pages has fewer than the guest's RAM needs, and nothing was reserved",
        """mount -t hugetlbfs none /huge; echo 20 > /proc/sys/vm/nr_hugepages; echo 1 > /proc/sys/vm/overcommit_memory
guest hugetlb-exhausted touches-all 64M 1 -object \
memory-backend-memfd,id=ram,size=64M,hugetlb=on,hugetlbsize=2M,reserve=off -machine memory-backend=ram""",
    ),
    "hugetlb-too-small": (
        "touches-all",
        "the pool of huge pages is smaller than the guest's RAM",
        """guest hugetlb-too-small touches-all 64M 1 -object \
memory-backend-file,id=ram,size=64M,mem-path=/huge,prealloc=on -machine memory-backend=ram
echo 0 > /proc/sys/vm/nr_hugepages; echo 0 > /proc/sys/vm/overcommit_memory""",
    ),
    "memory-limit": (
        "touches-all",
        "QEMU runs in a memory cgroup whose limit is below the guest's RAM",
        """mount -t cgroup2 none /cgroup; echo +memory > /cgroup/cgroup.subtree_control; mkdir /cgroup/vm
echo 60M > /cgroup/vm/memory.max; echo 0 > /cgroup/vm/memory.swap.max 2> /dev/null
printf '#!/bin/sh\\necho $$ > /cgroup/vm/cgroup.procs\\nexec "$@"\\n' > /tmp/under; chmod +x /tmp/under
UNDER=/tmp/under; guest memory-limit touches-all 64M 1; UNDER=""",
    ),
}  # fmt: skip


def _program(path: str) -> dict[str, bytes]:
    """A dynamic program and what it needs, by its place in the machine."""
    listing = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    files = {f"{_LIBRARIES}/{Path(lib).name}": Path(lib).read_bytes() for lib in re.findall(r"(/\S+) \(0x", listing)}
    files["lib64/ld-linux-x86-64.so.2"] = Path("/lib64/ld-linux-x86-64.so.2").read_bytes()
    return {**files, f"bin/{Path(path).name}": Path(path).read_bytes()}


def _script(guests: Iterable[Wild], acts: Iterable[str], seconds: int) -> str:
    lines = [
        " ".join(("guest", guest.name, guest.name, guest.memory, str(guest.smp), *guest.options)) for guest in guests
    ]
    return "\n".join((*lines, *(_HOST_ACTS[act][2].format(half=max(1, seconds // 3)) for act in acts), ""))


def run(
    bench: str, kernel: kernels.Kernel, scenarios: tuple[Sequence[Wild], Sequence[str]], work: Path, module_args: str
) -> tuple[command.Output, dict[str, dict[str, str]]]:
    """Boot the kernel and run them all; the files of each by its name. Raises BenchError if nothing comes back."""
    from guests.wild import WILD

    guests, acts = scenarios
    files = {
        "run.sh": _script(guests, acts, SECONDS[bench]).encode(),
        **_program(QEMU),
        **{f"roms/{name}": Path(_DATA, name).read_bytes() for name in ROMS},
        **{f"guests/{guest.name}.bin": guest.image for guest in (*guests, WILD["touches-all"])},
    }
    output = command.run(
        *(bench, kernel, _COMMAND, work),
        files=files,
        settings={"ARGS": module_args, "SECONDS_EACH": str(SECONDS[bench])},
        memory=1024,
        limit=LIMIT[bench],
        scratch="truths",
    )
    taken: dict[str, dict[str, str]] = {}
    with tarfile.open(fileobj=io.BytesIO(output.data)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                _, name, file = member.name.split("/")
                taken.setdefault(name, {})[file] = stream.read().decode(errors="replace")
    return output, taken


def main(arguments: Sequence[str]) -> int:
    from guests.wild import WILD

    parser = argparse.ArgumentParser(prog="lab/truths.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bench", choices=("svm", "vmx"))
    parser.add_argument("--kernel", nargs="+", default=[], metavar="SERIES")
    parser.add_argument("--module-args", default="")
    parser.add_argument("--only", nargs="+", default=[*WILD, *_HOST_ACTS], metavar="NAME")
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--target", type=Path, default=ROOT / "tests" / "fixtures" / "truths-lab")
    options = parser.parse_args(arguments)
    work = (options.work or work_directory()).absolute()
    try:
        chosen = kernels_for(options.bench, work, options.kernel)
    except NotReadyError as error:
        complain(str(error))
        return 3
    guests = [WILD[name] for name in options.only if name in WILD and name != "touches-all"]
    acts = [name for name in options.only if name in _HOST_ACTS]
    status = 0
    for kernel in chosen:
        try:
            said, taken = run(options.bench, kernel, (guests, acts), work, options.module_args)
        except benches.BenchError as error:
            complain(f"{kernel.release}: {error}")
            status = 1
            continue
        series = ".".join(kernel.release.split(".")[:2])
        suffix = f"-{options.module_args.replace('=', '-').replace(' ', '-')}" if options.module_args else ""
        target = options.target / f"{options.bench}-{series}{suffix}"
        for name, files in taken.items():
            _keep(target / name, files)
        provenance = {
            "kernel": said.marks.get("release", kernel.release),
            "version": said.marks.get("version", ""),
            "module": benches.BENCHES[options.bench].module,
            "module_args": options.module_args,
            "bench": benches.version(options.bench),
            "date": today(),
            "command": f"python lab/truths.py {options.bench} --kernel {series}"
            + (f" --module-args '{options.module_args}'" if options.module_args else ""),
        }
        (target / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(f"{kernel.release}: {len(taken)} scenarios -> {target}\n")
    return status


def _keep(directory: Path, files: dict[str, str]) -> None:
    """What tells of a failure; of a trace the head that says what the columns are, and the way to the failure."""
    kept = {}
    for name, text in files.items():
        lines = text.splitlines(keepends=True)
        if name == "trace.txt":
            events = [line for line in lines if not line.startswith("#")]
            ends = [index for index, line in enumerate(events) if any(mark in line for mark in _FAILS)]
            shown = events[max(0, ends[-1] - _EVENTS + 1) : ends[-1] + 1] if ends else []
            lines = [line for line in lines if line.startswith("#")] + shown if shown else []
        if name == "vmm.log":
            lines = [] if text.strip() == _KILLED else lines[:_LINES]
        if any(line.strip() for line in lines):
            kept[name] = "".join(lines)
    shutil.rmtree(directory, ignore_errors=True)
    for name, text in kept.items():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
