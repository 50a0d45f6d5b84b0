"""Failed emulations in a big trace: kvmwhy's reader beside ``trace-cmd report`` and ``perf script``, in one run.

    python bench/trace.py [--seconds 4] [--runs 5] [--keep DIRECTORY]

Records a guest that does MMIO and nothing else on this host's /dev/kvm, with a failed emulation now and then: once
through an instance of tracefs, whose pages become a trace.dat, and once through perf. Then asks each program for the
failed emulations of its file, in turn; every event counts. Needs root, /dev/kvm and tracefs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTANCE = f"kvmwhy-bench-{os.getpid()}"
PAGE = 4096
EVERY = 20_000  # MMIO exits between two failures
CODE = bytes.fromhex("8a 03 eb fc")  # 1: mov (%rbx),%al; jmp 1b
FAILING = bytes.fromhex("d9 03")  # flds (%rbx)
READ = "import mmap,sys;from kvmwhy.readers.trace.trace_dat import read"
OURS = f"{READ};f=open(sys.argv[1],'rb');d=read(memoryview(mmap.mmap(f.fileno(),0,prot=1)),whole=len(sys.argv)>2)"
OURS += ";print(sum(x.source.count for x in d.failures if x.emulation))"
OURS_TEXT = "import sys;from kvmwhy.readers.trace.ftrace import read_file;f=open(sys.argv[1],'rb')"
OURS_TEXT += (
    ";d=read_file(iter(lambda:f.read(1<<20),b''));print(sum(x.source.count for x in d.failures if x.emulation))"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4.0, help="of recording")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="where the recordings stay, or are already")
    options = parser.parse_args()
    if os.geteuid() or not Path("/dev/kvm").exists():
        print("needs root and /dev/kvm", file=sys.stderr)
        return 3
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        dat, perf_data = directory / "bench.dat", directory / "perf.data"
        if not dat.exists():
            record(dat, options.seconds, Path(scratch))
        if not perf_data.exists():
            perf(perf_data, options.seconds)
        count = grep("", ["trace-cmd", "report", "-i", dat]) - 1  # its first line is "cpus=2"
        print(f"{dat.name}: {count:,} events, {dat.stat().st_size / 1e6:.1f} MB")
        compare(dat, count, perf_data if perf_data.exists() else None, options.runs)
    return 0


# -- recording ------------------------------------------------------------------------------------


def guest(seconds: float) -> int:
    """MMIO for so long; the number of failures on the way."""
    sys.path.insert(0, str(ROOT / "src"))
    from kvmwhy.machine import Guest, InternalError, KvmMachine, Mmio

    failures, end = 0, time.monotonic() + seconds
    with KvmMachine() as machine:
        subject = Guest("long64", CODE, regs={"rbx": 0xD0000000})
        vcpu = subject.load(machine)
        exits = 0
        while time.monotonic() < end:
            match vcpu.run(timeout=1.0):
                case Mmio(is_write=False, len=size):
                    vcpu.complete(bytes(size))
                    exits += 1
                    if exits % EVERY == EVERY // 2:
                        machine.write(subject.entry, FAILING)
                case InternalError():
                    failures += 1
                    machine.write(subject.entry, CODE)
                case other:
                    raise SystemExit(f"the guest ended: {other}")
    return failures


def record(dat: Path, seconds: float, scratch: Path) -> None:
    """A trace.dat (version 6) of all KVM events while the guest runs."""
    tracefs = scratch / "tracefs"
    tracefs.mkdir()
    subprocess.run(["mount", "-t", "tracefs", "tracefs", tracefs], check=True)
    instance = tracefs / "instances" / INSTANCE
    try:
        instance.mkdir()
        (instance / "buffer_size_kb").write_text("8192")
        (instance / "events/kvm/enable").write_text("1")
        pages = capture(instance, seconds)
        (instance / "events/kvm/enable").write_text("0")
        dat.write_bytes(trace_dat(tracefs, pages))
    finally:
        if instance.exists():
            instance.rmdir()
        subprocess.run(["umount", tracefs], check=True)


def capture(instance: Path, seconds: float) -> list[bytes]:
    """What every CPU's trace_pipe_raw gives until the guest has ended."""
    over = threading.Event()
    found: list[list[bytes]] = []

    def drain(file: Path, into: list[bytes]) -> None:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        while True:
            last = over.is_set()
            try:
                while page := os.read(fd, PAGE):
                    into.append(page)
            except BlockingIOError:
                pass
            if last:
                break
            time.sleep(0.01)
        os.close(fd)

    threads = []
    for cpu in sorted((instance / "per_cpu").iterdir(), key=lambda path: int(path.name[3:])):
        found.append([])
        threads.append(threading.Thread(target=drain, args=(cpu / "trace_pipe_raw", found[-1])))
        threads[-1].start()
    subprocess.run([sys.executable, __file__, "--guest", str(seconds)], check=True)
    over.set()
    for thread in threads:
        thread.join()
    return [b"".join(pages) for pages in found]


def trace_dat(tracefs: Path, cpus: list[bytes]) -> bytes:
    """Version 6 of the container: what trace-cmd needs to read the pages, and no more."""

    def sized(data: bytes) -> bytes:
        return struct.pack("<Q", len(data)) + data

    events = tracefs / "events"
    formats = [path.read_bytes() for path in sorted((events / "kvm").glob("*/format"))]
    out = bytearray(b"\x17\x08\x44tracing6\0\0\x08" + struct.pack("<I", PAGE))
    out += b"header_page\0" + sized((events / "header_page").read_bytes())
    out += b"header_event\0" + sized((events / "header_event").read_bytes())
    out += struct.pack("<I", 0)  # ftrace's own formats
    out += struct.pack("<I", 1) + b"kvm\0" + struct.pack("<I", len(formats)) + b"".join(map(sized, formats))
    out += struct.pack("<IIQ", 0, 0, 0)  # kallsyms, printk formats, command lines
    out += struct.pack("<I", len(cpus))
    out += b"options  \0\0\0flyrecord\0"
    at = -(-(len(out) + 16 * len(cpus)) // PAGE) * PAGE
    body = b""
    for data in cpus:
        out += struct.pack("<QQ", at + len(body), len(data))
        body += data
    return bytes(out).ljust(at, b"\0") + body


def perf(data: Path, seconds: float) -> None:
    if shutil.which("perf"):
        command: list[str | Path] = ["perf", "record", "-q", "-m", "4096", "-e", "kvm:*", "-o", data]
        subprocess.run([*command, sys.executable, __file__, "--guest", str(seconds)], check=False)


# -- reading --------------------------------------------------------------------------------------


def compare(dat: Path, count: int, perf_data: Path | None, runs: int) -> None:
    """Each in turn, so that a drift of the machine's speed meets all."""
    text = dat.with_suffix(".txt")
    with text.open("wb") as out:
        subprocess.run(["trace-cmd", "report", "-i", dat], stdout=out, stderr=subprocess.DEVNULL, check=True)
    programs: dict[str, tuple[int, Callable[[], int]]] = {
        "kvmwhy, trace.dat": (count, lambda: ours(OURS, dat)),
        "kvmwhy, every event decoded": (count, lambda: ours(OURS, dat, "whole")),
        "kvmwhy, that trace as text": (count, lambda: ours(OURS_TEXT, text)),
        "trace-cmd report, grep FAIL": (count, lambda: grep("FAIL$", ["trace-cmd", "report", "-i", dat])),
        "trace-cmd report -F failed==1": (count, lambda: grep("FAIL$", filtered(dat))),
    }
    if perf_data is not None:
        total = grep("", ["perf", "script", "-F", "event", "-i", perf_data])
        print(f"{perf_data.name}: {total:,} events")
        script: list[str | Path] = ["perf", "script", "-i", perf_data]
        programs["perf script, grep failed"] = (total, lambda: grep("failed$", script))
    times: dict[str, list[float]] = {name: [] for name in programs}
    found: dict[str, int] = {}
    for run in range(runs + 1):
        for name, (_, ask) in programs.items():
            begin = time.perf_counter()
            found[name] = ask()
            if run:  # the first fills the caches
                times[name].append(time.perf_counter() - begin)
    base = statistics.median(times["trace-cmd report, grep FAIL"]) / count
    for name, (total, _) in programs.items():
        rates = sorted(total / seconds for seconds in times[name])
        median = statistics.median(rates)
        print(
            f"{name:32} {median:12,.0f} events/s ({rates[0]:,.0f}–{rates[-1]:,.0f})"
            f"  {median * base:6.1f} x trace-cmd  found {found[name]}"
        )


def filtered(dat: Path) -> list[str | Path]:
    return ["trace-cmd", "report", "-F", "kvm/kvm_emulate_insn: failed==1", "-i", dat]


def ours(program: str, *arguments: str | Path) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", program, *arguments]
    return int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def grep(pattern: str, command: list[str | Path]) -> int:
    """Lines of a program's output, without Python between the two."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        said = subprocess.run(["grep", "-c", pattern], stdin=process.stdout, capture_output=True, check=False).stdout
    number = re.match(rb"\d+", said)
    return int(number[0]) if number else -1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--guest"]:
        print(f"{guest(float(sys.argv[2]))} failures")
        sys.exit(0)
    sys.exit(main())
