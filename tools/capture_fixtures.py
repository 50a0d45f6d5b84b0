"""Regenerate tests/fixtures: run every guest of tests/guests on this host and keep what KVM and QEMU said.

    python tools/capture_fixtures.py [GUEST ...]

A guest that ends in a way it is not built for, or a log whose words differ from the page's, is not
written, and the exit status is 1. Nothing kept here names the machine or a path of it.
"""

import argparse
import datetime as dt
import json
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guests.boot import Guest
    from guests.qemu import GuestRun

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
VENDOR_MODULES = ("kvm_intel", "kvm_amd", "kvm_pvm")


def host() -> dict[str, Any]:
    """Facts about the bench that the words depend on."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    version = subprocess.run(["qemu-system-x86_64", "--version"], check=True, capture_output=True, text=True)
    return {
        "kernel": platform.release(),
        "modules": [name for name in VENDOR_MODULES if Path("/sys/module", name).is_dir()],
        "cpu_vendor": cpu_field(cpu, "vendor_id"),
        "cpu_model": cpu_field(cpu, "model name"),
        "qemu": version.stdout.splitlines()[0].removeprefix("QEMU emulator version "),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def cpu_field(cpuinfo: str, name: str) -> str | None:
    found = re.search(rf"^{name}\s*: (.*)$", cpuinfo, re.MULTILINE)
    return found[1] if found else None


def short(argument: str) -> str:
    """Paths become file names."""
    return re.sub(r"/[^,:]+", lambda path: PurePath(path[0]).name, argument)


def provenance(guest: "Guest", run: "GuestRun", bench: dict[str, Any]) -> dict[str, Any]:
    return {
        "guest": guest.name,
        "does": guest.summary,
        "bench": bench,
        "command": [short(argument) for argument in run.command],
        "expected": {
            "mode": guest.mode,
            "cpl": guest.cpl,
            "address": f"{guest.rip:#x}",
            "bytes": guest.insn.hex() or None,
            "kind": guest.access,
            "gpa": None if guest.gpa is None else f"{guest.gpa:#x}",
        },
        "observed": {"status": run.status, "exit_reason": run.exit_reason},
        "note": "the log is the start of an endless series of dumps" if run.status == "repeating" else None,
    }


def complaint(guest: "Guest", run: "GuestRun") -> str | None:
    """Why this run is not worth keeping."""
    if run.status not in guest.endings:
        return f"ended in {run.status!r}: {run.log[:200]}"
    if run.page is None:
        return "no kvm_run page"
    if "KVM internal error." not in run.log:
        return None
    suberror, ndata = struct.unpack_from("<II", run.page, 32)
    words = list(struct.unpack_from(f"<{min(ndata, 16)}Q", run.page, 40))
    dump = run.log.split("KVM internal error.")[-1]
    printed = [int(word, 16) for word in re.findall(r"^extra data\[\d+\]: 0x([0-9a-f]+)$", dump, re.MULTILINE)]
    if not dump.startswith(f" Suberror: {suberror}\n") or printed != words:
        return f"the log says {printed}, the page {words}"
    return None


def main() -> int:
    sys.path.insert(0, os.fspath(ROOT / "tests"))
    from guests import boot, qemu

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("guest", nargs="*", help="default: all of them")
    chosen = parser.parse_args().guest or list(boot.GUESTS)
    if reason := qemu.unavailable():
        print(f"capture_fixtures: {reason}", file=sys.stderr)
        return 3
    bench = host()
    failed = False
    for name in chosen:
        guest = boot.GUESTS[name]
        run = qemu.run_guest(name, guest.image, memory=guest.memory)
        if problem := complaint(guest, run):
            print(f"{name}: not kept: {problem}", file=sys.stderr)
            failed = True
            continue
        case = FIXTURES / name
        case.mkdir(parents=True, exist_ok=True)
        (case / "qemu.log").write_text(run.log, encoding="utf-8", errors="surrogateescape")
        (case / "kvm_run.page").write_bytes(run.page or b"")
        text = json.dumps(provenance(guest, run, bench), indent=2)
        (case / "provenance.json").write_text(text + "\n", encoding="utf-8")
        print(f"{name}: {run.status}, exit reason {run.exit_reason}, {run.seconds:.2f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
