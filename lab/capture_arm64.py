"""Fixtures of an arm64 host, from a boot of the lab: python -m lab.capture_arm64 [--kernel 7.3]

A VMM of kvmwhy's own lets its guest touch an address without memory by LDP: once as one that asks for nothing (ENOSYS),
once with KVM_CAP_ARM_NISV_TO_USER. Kept are that VMM's kvm_run page as another process reads it, the host's trace of
both, what KVM said in the kernel's log at its start, and what `kvmwhy doctor --json` says. They go to
tests/fixtures/arm64/RELEASE, with where they are from.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab import benches, command, kernels, userland
from lab.architectures import ARM64
from lab.console import complain
from lab.outcome import today
from lab.ready import NotReadyError, kernels_for, work_directory
from lab.self_test import ROOT, checkout

TARGET: Final = ROOT / "tests" / "fixtures" / "arm64"
EVENTS: Final = ("kvm_entry", "kvm_exit", "kvm_guest_fault", "kvm_mmio_nisv", "kvm_userspace_exit")
_SCRIPT: Final = '''
import base64, json, os, subprocess, sys, time
from kvmwhy.live.doctor.kernel_lines import kernel_lines
from kvmwhy.live.process import vmm
from kvmwhy.live.process_memory import Memory
VMM = """
import sys, time
from kvmwhy.machine.arm64 import ISA, Arm64Machine
from kvmwhy.machine.bare_guest import BareGuest
with Arm64Machine() as machine:
    if sys.argv[1] == "nisv":
        machine.enable("KVM_CAP_ARM_NISV_TO_USER")
    guest = BareGuest(ISA, (0xA9400801).to_bytes(4, "little"), regs={"x0": 0x0D000000})
    print(guest.run(guest.load(machine), timeout=2).how, flush=True)
    time.sleep(60)
"""
tracing = "/sys/kernel/tracing"
for event in EVENTS:
    open(f"{tracing}/events/kvm/{event}/enable", "w").write("1")
pages = {}
for what in ("plain", "nisv"):
    process = subprocess.Popen([sys.executable, "-c", VMM, what], stdout=subprocess.PIPE)
    process.stdout.readline()
    found = vmm(process.pid)
    with Memory(process.pid) as memory:
        pages[what] = base64.b64encode(memory.snapshot(found.vcpus[0].address).page).decode()
    process.kill()
for event in EVENTS:
    open(f"{tracing}/events/kvm/{event}/enable", "w").write("0")
doctor = subprocess.run([sys.executable, "-m", "kvmwhy", "doctor", "--json"], capture_output=True, text=True).stdout
trace = open(f"{tracing}/trace").read()
print(json.dumps({"pages": pages, "trace": trace, "kernel": kernel_lines(), "doctor": json.loads(doctor)}))
'''
_COMMAND: Final = "cd /kvmwhy && PYTHONPATH=src PYTHONDONTWRITEBYTECODE=1 python3 /capture.py"
_MEMORY: Final = 1024


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="lab/capture_arm64.py", description=__doc__)
    parser.add_argument("--kernel", default="", metavar="SERIES")
    options = parser.parse_args(arguments)
    work = work_directory().absolute()
    try:
        chosen = kernels_for("arm64", work, [options.kernel] if options.kernel else [])
        return _capture(work, chosen[-1])
    except (NotReadyError, benches.BenchError) as error:
        complain(str(error))
        return 3


def _capture(work: Path, kernel: kernels.Kernel) -> int:
    """Raises BenchError."""
    script = _SCRIPT.replace("EVENTS", repr(EVENTS))
    files = {**dict(checkout(())), "capture.py": script.encode()}
    root = userland.root_of(work, ARM64)
    output = command.run("arm64", kernel, _COMMAND, work, files=files, root=root, memory=_MEMORY, scratch="capture")
    if output.status:
        complain("; ".join(output.failed))
        return 1
    captured = json.loads(output.data)
    target = TARGET / kernel.release
    target.mkdir(parents=True, exist_ok=True)
    for what, page in captured["pages"].items():
        (target / f"{what}.page").write_bytes(base64.b64decode(page))
    (target / "trace.txt").write_text(captured["trace"])
    (target / "kernel.txt").write_text(captured["kernel"] + "\n")
    (target / "doctor.json").write_text(json.dumps(captured["doctor"], indent=1) + "\n")
    provenance = {
        "made_by": "python -m lab.capture_arm64",
        "kernel": f"{output.marks['release']} {output.marks['version']}",
        "bench": benches.version("arm64"),
        "date": today(),
        "guest": "ldp x1, x2, [x0] with x0 = 0xd000000, MMU off; no memory there",
    }
    (target / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
