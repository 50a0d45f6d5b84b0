"""What `kvmwhy watch` costs a guest that does nothing but MMIO, and how soon a failure is a record.

    sudo .venv/bin/python bench/watch.py [--exits 200000] [--rounds 5] [--failures 200]

The guest is tests/live/vmm.c's: each round it does the same MMIO exits with nobody watching, under a
watch without and with a flight recorder, while the same events are read into files as `trace-cmd record` does, and,
where that works, under `trace-cmd record` itself. Rounds alternate, so that whatever else the host does hits all alike.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kvmwhy.live.host import host_facts
from kvmwhy.live.tracefs import FAILURES, HISTORY, Instance
from kvmwhy.live.watch import Watch

ROOT = Path(__file__).parent.parent


# Not cat or dd: where the ring buffer moves on at the same moment a read gives nothing, which they take for the end.
COPY = """
import os, sys
source, to = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
while True:
    os.write(to, os.read(source, 4096))
"""


def compile_vmm(directory: Path) -> Path:
    program = directory / "vmm"
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, ROOT / "tests" / "live" / "vmm.c"], check=True)
    return program


@contextmanager
def tracefs(directory: Path) -> Iterator[Path]:
    where = directory / "tracefs"
    where.mkdir()
    subprocess.run(["mount", "-t", "tracefs", "nodev", where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def exits(program: Path, count: int) -> float:
    """Nanoseconds of the VMM's CPU time for each exit: wall time would count what else runs on the host."""
    process = subprocess.Popen([program, "mmio", "1", "1", str(count), "exit"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return (usage.ru_utime + usage.ru_stime) / count * 1e9


@contextmanager
def watched(root: Path, directory: Path, *options: str) -> Iterator[None]:
    command = [sys.executable, "-m", "kvmwhy", "watch", "--tracefs", str(root), "--out", str(directory / "out")]
    command += ["--name", "kvmwhy-bench", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "watching every vCPU" not in process.stderr.readline():
            pass
        yield
        process.send_signal(signal.SIGTERM)


@contextmanager
def recorded(root: Path, directory: Path) -> Iterator[None]:
    """What `trace-cmd record` does: the same events, all of them, read page by page into files, one reader a CPU."""
    with Instance(str(root), f"bench-{os.getpid()}-{time.monotonic_ns()}") as instance:
        instance.set_up(1408, overwrite=True)  # its default size
        instance.enable(dict.fromkeys((*FAILURES, *HISTORY)))
        readers = []
        for cpu in instance.pipes:
            command = [sys.executable, "-c", COPY, f"{instance.path}/per_cpu/cpu{cpu}/trace_pipe_raw"]
            readers.append(subprocess.Popen([*command, directory / f"cpu{cpu}"]))
        yield
        time.sleep(0.5)  # what is in the buffer yet
        for reader in readers:
            reader.kill()
            reader.wait()
        assert sum((directory / f"cpu{cpu}").stat().st_size for cpu in instance.pipes) > 1 << 16


@contextmanager
def trace_cmd(root: Path, directory: Path) -> Iterator[None]:
    """`trace-cmd record` itself, in an instance of its own. Raises CalledProcessError where it does not work."""
    events = [word for name in dict.fromkeys((*FAILURES, *HISTORY)) for word in ("-e", f"kvm:{name}")]
    data = directory / "trace.dat"
    name = f"trace-cmd-{os.getpid()}"
    command = ["trace-cmd", "record", "-q", "-B", name, *events, "-o", str(data)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(1.0)  # it says nothing when it is ready
    if process.poll() is not None:
        with suppress(OSError):
            (root / "instances" / name).rmdir()
        raise subprocess.CalledProcessError(process.returncode, command)
    yield
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def delays(program: Path, root: Path, count: int) -> tuple[list[float], int]:
    """Seconds from KVM's return to userspace to the record, and how many records have the page's words."""
    found: list[float] = []
    whole = 0
    with Watch(str(root), host_facts()) as watch:

        def fail() -> None:
            for _ in range(count):
                subprocess.run([program, "prot32", "1", "1", "1", "exit"], check=True, stdout=subprocess.DEVNULL)
                time.sleep(0.005)

        thread = threading.Thread(target=fail)
        thread.start()
        while thread.is_alive():
            for failure, when, _ in watch.poll(0.1):
                found.append(time.monotonic() - when)
                whole += not failure.damage
        thread.join()
    return sorted(found), whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exits", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--failures", type=int, default=200)
    wish = parser.parse_args()
    print(f"Linux {os.uname().release}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as name:
        directory = Path(name)
        program = compile_vmm(directory)
        with tracefs(directory) as root:
            times: dict[str, list[float]] = {"nobody": [], "watch --history 0": [], "kvmwhy watch": []}
            times["everything to files"] = []
            rival = shutil.which("trace-cmd") is not None
            for _ in range(wish.rounds):
                times["nobody"].append(exits(program, wish.exits))
                with watched(root, directory, "--history", "0"):
                    times["watch --history 0"].append(exits(program, wish.exits))
                with watched(root, directory):
                    times["kvmwhy watch"].append(exits(program, wish.exits))
                with recorded(root, directory):
                    times["everything to files"].append(exits(program, wish.exits))
                if rival:
                    try:
                        with trace_cmd(root, directory):
                            times.setdefault("trace-cmd record", []).append(exits(program, wish.exits))
                    except subprocess.CalledProcessError:
                        rival = False
            print(f"\n{wish.exits} MMIO exits, {wish.rounds} rounds; ns of the VMM's CPU time for each")
            print(f"  {'':<20} {'least':>8} {'median':>8} {'over nobody, median of the rounds':>36}")
            for who, values in times.items():
                over = statistics.median(mine / alone for mine, alone in zip(values, times["nobody"], strict=False)) - 1
                print(f"  {who:<20} {min(values):8.0f} {statistics.median(values):8.0f} {over:+36.1%}")
            if not rival:
                print("  trace-cmd record does not work here")
            found, whole = delays(program, root, wish.failures)
            print(
                f"\n{len(found)} failures of VMMs that die at once, {whole} read before they died; failure to record:"
            )
            for label, at in (("median", 0.5), ("9 of 10", 0.9), ("worst", 1)):
                print(f"  {label:<8} {found[min(len(found) - 1, int(len(found) * at))] * 1e3:8.2f} ms")


if __name__ == "__main__":
    main()
