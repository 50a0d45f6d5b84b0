"""What the server bears: requests a second and the slowest of a hundred, before, under and after a flood of bad inputs.

    python bench/serve.py [--clients 50] [--seconds 20]

Clients and server share this machine, so the figures are of both. Each client sends the next request when the last is
answered, on a connection of its own. Memory is that of the server and the process that its workers are forked from,
after each part; the flood is of what costs most: archives that unpack without end, megabytes of anchors, one endless
line, distinct failures until the time is over, bodies above the limit, and connections that end amid a body.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import itertools
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "examples" / "avx-move-on-mmio.log"
PORT = 8091


class Part(NamedTuple):
    statuses: Counter[int]
    times: list[float]
    seconds: float

    def row(self, name: str, memory: str) -> str:
        times = sorted(self.times)
        p99 = times[len(times) * 99 // 100] * 1000 if times else 0
        median = statistics.median(times) * 1000 if times else 0
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"| {name} | {len(times) / self.seconds:.0f}/s | {median:.0f} ms | {p99:.0f} ms | {statuses} | {memory} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "kvmwhy", "serve", "--port", str(PORT), "--seconds", "5"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            asyncio.run(measure(server.pid, options.clients, options.seconds))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


async def measure(pid: int, clients: int, seconds: float) -> None:
    await ready()
    good = [LOG.read_bytes().replace(b"RBX=00000000d0", b"RBX=00000000%02x" % n) for n in range(0x60, 0xE0)]
    print(f"{platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.0f}, {clients} clients\n")
    print("| | requests | median | p99 | statuses | memory of server and its parent of workers |")
    print("|---|---|---|---|---|---|")
    await load(good, clients, 2)
    for name, bodies in (("one log", good), ("flood", worst()), ("one log again", good), ("flood again", worst())):
        part = await load(bodies, clients, seconds)
        print(part.row(name, memory(pid)), flush=True)
    part = await load(good, clients, seconds)
    print(part.row("one log at the end", memory(pid)))


def worst() -> list[bytes]:
    log = LOG.read_bytes()
    return [
        gzip.compress(bytes(400 << 20), 1),
        gzip.compress(b"KVM internal error. Suberror: 1\n" * (1 << 22), 1),
        b"KVM internal error. Suberror: 1\nextra data[0]: " * 40_000,
        b"A" * (8 << 20),
        b"".join(log.replace(b"RIP=0000000000008086", b"RIP=%016x" % n) for n in range(4000)),
        b"x" * (33 << 20),
        b"",
    ]


async def load(bodies: list[bytes], clients: int, seconds: float) -> Part:
    statuses: Counter[int] = Counter()
    times: list[float] = []
    turn = itertools.cycle(bodies)
    end = time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                statuses[await post(next(turn))] += 1
            except OSError:
                statuses[0] += 1  # the server closed the connection
            times.append(time.monotonic() - began)

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Part(statuses, times, time.monotonic() - began)


async def post(body: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        line = await reader.readline()
        while await reader.read(1 << 16):
            pass
        return int(line.split()[1]) if line else 0
    finally:
        writer.close()


async def ready() -> None:
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise SystemExit("the server does not start")


def memory(pid: int) -> str:
    children = [
        child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in map(int, task.read_text().split())
    ]
    return ", ".join(f"{_resident(each)} MiB" for each in (pid, *children))


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) >> 10


if __name__ == "__main__":
    main()
