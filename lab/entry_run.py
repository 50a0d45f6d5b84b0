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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # started as a script, so that lab/ is there instead
    sys.path[0] = str(ROOT)

from lab import boot, kernels  # noqa: E402
from lab.cases import pack_all  # noqa: E402
from lab.entry_states import states  # noqa: E402
from lab.outcome import Outcome, Provenance, open_results  # noqa: E402


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of one state: the outcome, and what the kernel logged meanwhile."""

    outcome: Outcome
    log: str = ""


# As lab/init, but case by case, with the kernel's log of each: it would not hold all their dumps at once.
_INIT: Final = r"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
echo 1 > /proc/sys/kernel/printk
. /lab.conf
mark() { echo "@@$*"; }
uptime() { read -r up _ < /proc/uptime; echo "$up"; }
mark init "$(uptime)"
for module in $MODULES; do
    case $module in
    kvm_amd | kvm-amd | kvm_intel | kvm-intel) args=$ARGS ;;
    *) args= ;;
    esac
    # shellcheck disable=SC2086 # several arguments
    insmod "/modules/$module.ko" $args || mark failed "insmod $module $args"
done
mark release "$(uname -r)"
mark version "$(uname -v)"
mark cpu "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
for file in /sys/module/kvm/parameters/* /sys/module/kvm_*/parameters/*; do
    [ -r "$file" ] || continue
    name=${file#/sys/module/}
    mark parameter "${name%%/*}.${name##*/}=$(cat "$file" 2> /dev/null | tr -d '\000')"
done
mark ready "$(uptime)"
zcat /cases.gz > /cases
dmesg -c > /dev/null
while read -r id; do
    /replay /cases "$id" 2> /errors || mark failed "$id $(cat /errors)"
    echo "@@log"
    dmesg -c
done < /ids > /outcomes
mark replayed "$(uptime)"
mark outcomes
gzip -9c /outcomes | base64
mark end
sleep "$DRAIN"
echo o > /proc/sysrq-trigger
sleep 5
"""
_DUMP: Final = {"svm": "dump_invalid_vmcb=1", "vmx": "dump_invalid_vmcs=1"}


def run(bench: str, kernel: kernels.Kernel, work: Path, module_args: str, limit: float) -> tuple[boot.Said, list[Kept]]:
    """Run all states on that kernel. Raises BenchError if nothing whole comes back."""
    cases = [boot._ADAPT[bench](state.case) for state in states()]  # noqa: SLF001
    scratch = work / "entry" / bench / kernel.release
    scratch.mkdir(parents=True, exist_ok=True)
    modules = kernel.modules(boot.VENDOR_MODULE[bench])
    config = {
        "MODULES": " ".join(path.stem for path in modules),
        "ARGS": f"{_DUMP[bench]} {module_args}".strip(),
        "DRAIN": "4" if bench == "vmx" else "0",
    }
    files = {
        "init": _INIT.encode(),
        "bin/busybox": Path("/bin/busybox").read_bytes(),
        "replay": boot.build("replay.c", work / "replay").read_bytes(),
        "cases.gz": gzip.compress(pack_all(cases), mtime=0),
        "ids": "".join(f"{case.id}\n" for case in cases).encode(),
        "lab.conf": "".join(f"{key}='{value}'\n" for key, value in config.items()).encode(),
        **{f"modules/{path.name}": path.read_bytes() for path in modules},
    }
    initrd = scratch / "initrd"
    initrd.write_bytes(boot._cpio(files))  # noqa: SLF001 -- the same machine, another first process
    start = time.monotonic()
    on_svm = bench == "svm"
    text = boot._qemu(kernel, initrd, limit) if on_svm else boot._bochs(kernel, initrd, scratch, limit)  # noqa: SLF001
    (scratch / "serial.txt").write_text(text)
    said = boot._understand(text, time.monotonic() - start, cases, scratch / "serial.txt")  # noqa: SLF001
    return said, list(_kept(said.outcomes.decode(errors="replace")))


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
    from lab.run import _bench_version, _today, work_directory

    work = (options.work or work_directory()).absolute()
    bundle = pack_all(state.case for state in states())
    status = 0
    for kernel in kernels.choose(work, options.kernel):
        try:
            said, kept = run(options.bench, kernel, work, options.module_args, 900)
        except boot.BenchError as error:
            sys.stderr.write(f"lab: {kernel.release}: {error}\n")
            status = 1
            continue
        for failure in said.failed:
            sys.stderr.write(f"lab: {kernel.release}: {failure}\n")
        head = Provenance(
            vendor=options.bench,
            release=said.marks["release"],
            version=said.marks["version"],
            module=boot.VENDOR_MODULE[options.bench],
            module_args=f"{_DUMP[options.bench]} {options.module_args}".strip(),
            parameters=said.parameters,
            bench=_bench_version(options.bench),
            cpu=said.marks["cpu"],
            date=_today(),
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
