"""Whether the server's memory stays flat: what its processes hold amid thousands of requests of a few clients.

    python bench/serve_memory.py [--requests 3000] [--clients 4] [--rows 10]

In turn the examples, by JSON, as a page, kept behind a link, and that link; one in fifty is refused. A process's memory
is what it does not share with a file (smaps_rollup): of the server, of the process that its workers are forked from,
and the largest that was seen of a worker, which lives for one request and shares most of it with that process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
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
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
PORT: Final = 8092
PAUSE: Final = 0.02  # seconds between two looks at the processes


class Request(NamedTuple):
    line: str
    accept: str
    body: bytes


class Sample(NamedTuple):
    """Of one moment, in KiB."""

    server: int
    parent: int
    worker: int  # 0: there was none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rows", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvmwhy-bench-") as folder, open(os.path.join(folder, "log"), "wb") as log:
        command = [sys.executable, "-m", "kvmwhy", "serve", "--port", str(PORT), "--keep", f"{folder}/kept.sqlite"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            asyncio.run(measure(server.pid, options.requests, options.clients, options.rows))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


async def measure(pid: int, most: int, clients: int, rows: int) -> None:
    await ready()
    turn = itertools.islice(requests(), most)
    statuses: Counter[int] = Counter()
    samples: list[Sample] = []

    async def client() -> None:
        link = "/r/none"
        for request in turn:
            status, moved = await send(request._replace(line=request.line.format(link=link)))
            link = moved or link
            statuses[status] += 1

    print(f"{platform.python_version()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.0f}, {clients} clients\n")
    print("| requests | seconds | server | parent of workers | largest worker |")
    print("|---|---|---|---|---|")
    began, row = time.monotonic(), 1
    working = asyncio.gather(*(client() for _ in range(clients)))
    while row <= rows:
        samples.append(await asyncio.to_thread(sample, pid))
        await asyncio.wait([working], timeout=PAUSE)
        if statuses.total() >= most * row // rows or working.done():
            server, parent = (statistics.median(column) / 1024 for column in list(zip(*samples, strict=True))[:2])
            worker = max(each.worker for each in samples) / 1024
            taken = time.monotonic() - began
            print(f"| {statuses.total():,} | {taken:.0f} | {server:.1f} MiB | {parent:.1f} MiB | {worker:.1f} MiB |")
            samples.clear()
            row += 1
    await working
    print("\n" + ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))


def requests() -> Iterator[Request]:
    """Without end. ``{link}`` stands for that of the client's last record."""
    logs = [path.read_bytes() for path in sorted((ROOT / "examples").glob("*.log"))]
    page = "text/html"
    for turn, log in enumerate(itertools.cycle(logs)):
        body = log.replace(b"RIP=00000000", b"RIP=%08x" % turn)  # no two alike
        if turn % 50 == 49:
            yield Request("PUT /nothing", page, b"")
            continue
        yield (
            Request("POST /", "*/*", body),
            Request("POST /", page, body),
            Request("POST /?keep=1", "*/*", body),
            Request("GET {link}", page, b""),
        )[turn // len(logs) % 4]


async def send(request: Request) -> tuple[int, str]:
    """Its status, and the link that it leads to."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        head = (
            f"{request.line} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nAccept: {request.accept}\r\n"
            f"Content-Length: {len(request.body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + request.body)
        await writer.drain()
        answer = await reader.read()
        lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        links = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("location:")]
        return int(lines[0].split()[1]), "".join(links[:1])
    finally:
        writer.close()


async def ready() -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            if (await send(Request("GET /healthz", "*/*", b"")))[0] == 200:
                return
        await asyncio.sleep(0.1)
    raise SystemExit("the server does not start")


def sample(server: int) -> Sample:
    parents = children(server)
    workers = [child for parent in parents for child in children(parent)]
    return Sample(private(server), sum(map(private, parents)), max(map(private, workers), default=0))


def children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def private(pid: int) -> int:
    """KiB that are the process's alone; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_", "Shared_Dirty")))


if __name__ == "__main__":
    main()
