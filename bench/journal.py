"""A journal of a gigabyte with ten failures in it, against ``grep -c``; and distinct register dumps a second.

python bench/journal.py [--size 1024] [--runs 3]
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from kvmwhy.pipeline import records
from kvmwhy.readers import read

LOG: Final = Path(__file__).parent.parent / "tests" / "fixtures" / "long64-flds" / "qemu.log"
FAILURES: Final = 10
DUMPS: Final = 5000


def journal(path: Path, size: int) -> None:
    """Lines as a host's journal has them; every tenth part ends with a failure of its own."""
    pick = random.Random(1)  # noqa: S311 -- the same journal each time
    idents = (
        "systemd[1]",
        "sshd[811]",
        "kernel",
        "libvirtd[902]",
        "qemu-kvm[1311]",
        "NetworkManager[77]",
        "dockerd[55]",
    )
    words = (
        "started",
        "session",
        "closed",
        "for user root",
        "KVM guest tools",
        "took 12 ms",
        "device vnet0",
        "error: timed out",
    )
    block = "".join(
        f"Jan 02 03:{n // 60 % 60:02}:{n % 60:02} pve1 {pick.choice(idents)}: {' '.join(pick.choices(words, k=5))} {n}\n"  # noqa: E501
        for n in range(12_000)
    ).encode()
    report = LOG.read_text().splitlines()
    with path.open("wb") as out:
        for n in range(FAILURES):
            for _ in range(size // FAILURES // len(block)):
                out.write(block)
            for line in report:
                out.write(f"Jan 02 04:00:00 pve1 QEMU[{n}]: {line}\n".replace("RCX=0000", f"RCX={n:04x}").encode())


def timed(command: list[str]) -> float:
    """Its CPU time, of which other programs of a shared machine take none."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        journal(path, options.size << 20)
        grep = ["grep", "-c", "-e", "KVM internal error", "-e", "KVM: entry failed", "-e", "kvm run failed", str(path)]
        ours = [sys.executable, "-m", "kvmwhy", "explain", "--json", str(path)]
        timed(grep)  # into the page cache
        found = subprocess.run(ours, check=True, capture_output=True).stdout.count(b"\n")
        assert found == FAILURES, found
        pairs = [(timed(grep), timed(ours)) for _ in range(options.runs)]
        theirs, mine = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{options.size} MiB, {FAILURES} failures, CPU: grep -c {theirs:.2f} s, kvmwhy explain {mine:.2f} s, {mine / theirs:.1f} ×"  # noqa: E501
        )
    log = LOG.read_bytes()
    many = b"".join(log.replace(b"RCX=00000000c0000080", b"RCX=%016x" % n) for n in range(DUMPS))
    started = time.perf_counter()
    assert len(read(many).failures) == DUMPS
    print(f"distinct dumps, one text: {DUMPS / (time.perf_counter() - started):.0f}/s")
    lines = "".join(f"Jan 02 04:00:00 pve1 QEMU[7]: {line}\n" for line in many.decode().splitlines()).encode()
    started = time.perf_counter()
    chunks = (lines[at : at + (1 << 20)] for at in range(0, len(lines), 1 << 20))
    assert sum(1 for _ in records(chunks)) == DUMPS
    print(f"distinct dumps, a journal's lines: {DUMPS / (time.perf_counter() - started):.0f}/s")


if __name__ == "__main__":
    main()
