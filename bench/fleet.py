"""What a scan and a triage cost, beside the tools that one would use else. All in one run, in turn, warm cache.

    python bench/fleet.py [--directory DIR] [--gib 1] [--blocks 450000] [--files 200000] [--rows 20000000] [--rounds 3] [--only few,dense]

Runs of one comparison alternate, so that a drift of the machine's speed meets all; quote the ratios of the medians.
Wall is what a clock says, CPU what all processes of the run used, peak the largest process of it.
"""

# ruff: noqa: S608, E501 -- SQL of its own making
from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LOG = (ROOT / "examples" / "avx-move-on-mmio.log").read_bytes()
SMALL = (ROOT / "tests" / "fixtures" / "prot32-flds" / "qemu.log").read_bytes()
LINE = b"Nov 22 %02d:%02d:12 host01 qemu-system-x86_64[12345]: info: block job of drive-virtio-disk0 at byte %010d\n"
KVMWHY = str(Path(sys.executable).parent / "kvmwhy")


class Cost(NamedTuple):
    wall: float
    cpu: float
    peak: float  # MiB


def run(command: list[str] | str) -> Cost:
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as out:  # grep stops at its first line if it sees that nobody reads them
        process = subprocess.Popen(
            command, shell=isinstance(command, str), stdout=out, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command}: exit status {process.returncode}")
    return Cost(time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(title: str, size: float, unit: str, commands: dict[str, Callable[[], Cost]], rounds: int) -> None:
    """The first command is what the others are compared with."""
    print(f"\n{title}")
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for n in range(rounds + 1):
        for name, command in commands.items():
            cost = command()
            if n:  # the first fills the caches
                costs[name].append(cost)
    base = statistics.median(c.wall for c in next(iter(costs.values())))
    for name, all_ in costs.items():
        wall, cpu, peak = (statistics.median(c[i] for c in all_) for i in range(3))
        rate = f"{size / wall:14,.1f} {unit}/s"
        print(f"  {name:34} {wall:7.2f} s  CPU {cpu:7.2f} s  {rate}  {wall / base:5.2f} x  peak {peak:6.0f} MiB")


def scan(path: Path, out: Path, *more: str) -> Callable[[], Cost]:
    return lambda: run([KVMWHY, "scan", str(path), "--out", str(out), "--fresh", *more])


def few(directory: Path, gib: float, rounds: int) -> None:
    path = made(directory / "few.log", few_failures(gib))
    pattern = "KVM internal error"
    compare(
        f"{gib:g} GiB with ten failures",
        gib,
        "GiB",
        {
            "grep -c": lambda: run(["grep", "-c", pattern, str(path)]),
            "rg -c": lambda: run(["rg", "-c", pattern, str(path)]),
            "rg -c, all anchors": lambda: run(["rg", "-c", *marks(), str(path)]),
            "kvmwhy scan --jobs 1": scan(path, directory / "few.parquet", "--jobs", "1"),
            "kvmwhy scan": scan(path, directory / "few.parquet"),
        },
        rounds,
    )


def marks() -> list[str]:
    from kvmwhy.readers.registry import search

    return ["-F", *(part for anchor in search().anchors for part in ("-e", anchor.text.strip("\n")))]


def packed(directory: Path, gib: float, rounds: int) -> None:
    path = made(directory / "few.log", few_failures(gib))
    small = directory / "few.log.zst"
    if not small.exists():
        subprocess.run(["zstd", "-q", "-f", str(path), "-o", str(small)], check=True)
    compare(
        f"the same, compressed by zstd to {small.stat().st_size >> 10} KiB",
        gib,
        "GiB",
        {
            "zstdcat | rg -c": lambda: run(f"zstdcat {small} | rg -c 'KVM internal error'"),
            "kvmwhy scan": scan(small, directory / "packed.parquet"),
        },
        rounds,
    )


def dense(directory: Path, blocks: int, rounds: int) -> None:
    path = made(directory / "dense.log", failures(blocks))
    size = path.stat().st_size / (1 << 30)
    compare(
        f"{size:.2f} GiB of {blocks:,} failures, 2,000 of them distinct",
        blocks,
        "blocks",
        {
            "grep -c": lambda: run(["grep", "-c", "KVM internal error", str(path)]),
            "kvmwhy scan --jobs 1": scan(path, directory / "dense.parquet", "--jobs", "1"),
            "kvmwhy scan": scan(path, directory / "dense.parquet"),
            "finding alone": lambda: run([sys.executable, __file__, "--count", str(path)]),
        },
        rounds,
    )


def lake(directory: Path, blocks: int, rounds: int) -> None:
    """The same ten times over: what a start and 2,000 explanations cost is less of it."""
    path = made(directory / "dense.log", failures(blocks))
    copies = directory / "dense"
    copies.mkdir(exist_ok=True)
    for n in range(10):
        if not (copies / f"{n}.log").exists():
            shutil.copy(path, copies / f"{n}.log")
    size = 10 * path.stat().st_size / (1 << 30)
    compare(
        f"{size:.2f} GiB of {10 * blocks:,} failures in ten files, 2,000 of them distinct",
        10 * blocks,
        "blocks",
        {
            "grep -c": lambda: run(["grep", "-rc", "KVM internal error", str(copies)]),
            "kvmwhy scan --jobs 1": scan(copies, directory / "lake.parquet", "--jobs", "1"),
            "kvmwhy scan": scan(copies, directory / "lake.parquet"),
        },
        rounds,
    )


def small(directory: Path, files: int, rounds: int) -> None:
    """Opening is what costs."""
    root = directory / f"small-{files}"
    for n in range(0 if root.exists() else files):
        where = root / f"{n // 1000:04}"
        where.mkdir(parents=True, exist_ok=True)
        (where / f"{n % 1000:03}.log").write_bytes(LOG if n % 1000 == 0 else LINE % (1, 2, n) * 6)
    compare(
        f"{files:,} files of 600 bytes, a failure in one of a thousand",
        files,
        "files",
        {
            "grep -rc": lambda: run(["grep", "-rc", "KVM internal error", str(root)]),
            "rg -c": lambda: run(["rg", "-c", "KVM internal error", str(root)]),
            "kvmwhy scan --jobs 1": scan(root, directory / "small.parquet", "--jobs", "1"),
            "kvmwhy scan": scan(root, directory / "small.parquet"),
        },
        rounds,
    )


def count(path: str) -> None:
    """Without reading one block: what a scan adds to this is the same for ten such files as for one."""
    from kvmwhy.ingest.segment import windows
    from kvmwhy.pipeline import keep_freed_memory
    from kvmwhy.readers.anchors.qemu import REPORT
    from kvmwhy.readers.registry import search

    keep_freed_memory()
    with open(path, "rb", buffering=0) as file:
        print(sum(1 for _ in windows(iter(lambda: file.read(1 << 20), b""), search(), REPORT)))


def triage(directory: Path, rows: int, rounds: int) -> None:
    path = directory / f"rows-{rows}.parquet"
    if not path.exists():
        make_rows(path, rows)
    compare(
        f"triage of {rows:,} rows, {path.stat().st_size >> 20} MiB of Parquet",
        rows / 1e6,
        "M rows",
        {
            "DuckDB, SQL by hand": lambda: run([sys.executable, __file__, "--by-hand", str(path)]),
            "kvmwhy triage": lambda: run([KVMWHY, "triage", str(path), "--json"]),
        },
        rounds,
    )


def make_rows(path: Path, rows: int) -> None:
    """100,000 hosts, 60 days, 40 signatures; one of them on hosts with one microcode."""
    import duckdb

    from kvmwhy.fleet.row import COLUMNS, WIDE

    given = {
        "path": "'/var/log/' || h || '.log'",
        "offset": "CAST(i AS UBIGINT)",
        "count": "CAST(1 + i % 5 AS UBIGINT)",
        "host": "'host' || h",
        "time": "TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i * 7919 % 5184000)",
        "last_time": "TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i * 7919 % 5184000 + 60)",
        "kernel": "'6.' || h % 7 || '.0'",
        "microcode": "CASE WHEN h % 50 = 0 THEN '0x2b000661' ELSE '0x2b000590' END",
        "vmm": "'qemu'",
        "vendor": "'vmx'",
        "kind": "'internal-error'",
        "suberror": "CAST(1 AS UINTEGER)",
        "cpl": "CAST(0 AS UTINYINT)",
        "rip": "CAST(i AS UBIGINT)",
        "mode": "'long64'",
        "instruction": "'insn ' || s",
        "place": "'hole'",
        "cause": "'cause-' || s",
        "family": "'emulator-gap'",
        "confidence": "'likely'",
        "answer": "'It failed at ' || i % 1000",
        "damaged": "false",
        "signature": "'v3 s' || s",
        "signature_v2": "'v2 s' || s",
        "why": "'cause ' || s",
        "why_v2": "'cause ' || s",
    }
    columns = ", ".join(
        f'{given.get(name, "CAST(NULL AS UBIGINT)" if name in WIDE else "CAST(NULL AS VARCHAR)")} AS "{name}"'
        for name in COLUMNS
    )
    session = duckdb.connect()
    session.execute("SET TimeZone = 'UTC'")
    source = f"SELECT i, i * 104729 % 100000 AS h, CASE WHEN i * 104729 % 100000 % 50 = 0 THEN 0 ELSE 1 + i % 39 END AS s FROM range({rows}) r(i)"
    session.execute(f"COPY (SELECT {columns} FROM ({source})) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def by_hand(path: str) -> None:
    """What somebody who knows the columns would write for the same answer."""
    import duckdb

    q = duckdb.connect()
    q.execute("SET TimeZone = 'UTC'")
    q.execute(f"CREATE VIEW r AS SELECT * FROM read_parquet('{path}')")
    q.sql(
        "SELECT signature, min(why), min(cause), min(family), min(confidence), min(answer), sum(count) n, count(DISTINCT host) h,"
        " count(DISTINCT path), CAST(min(time) AS VARCHAR), CAST(max(last_time) AS VARCHAR), min(path)"
        " FROM r GROUP BY 1 ORDER BY h DESC, n DESC LIMIT 20"
    ).fetchall()
    q.sql("SELECT sum(count), count(DISTINCT host), count(DISTINCT path), count(DISTINCT signature) FROM r").fetchall()
    q.sql("SELECT signature, CAST(epoch(time) // 129600 AS INTEGER), sum(count) FROM r GROUP BY 1, 2").fetchall()
    for name in ("kernel", "microcode", "vmm", "qemu", "vendor"):
        q.sql(
            f"WITH s AS (SELECT signature, count(DISTINCT host) n FROM r GROUP BY 1),"
            f" p AS (SELECT signature, {name} v, count(DISTINCT host) n FROM r WHERE {name} IS NOT NULL GROUP BY 1, 2),"
            f" a AS (SELECT {name} v, count(DISTINCT host) n FROM r WHERE {name} IS NOT NULL GROUP BY 1),"
            f" w AS (SELECT count(DISTINCT host) n FROM r)"
            f" SELECT p.signature, p.v, p.n / s.n, a.n / w.n FROM p JOIN s USING (signature) JOIN a USING (v), w"
            f" WHERE p.n / s.n >= 0.6 AND p.n / s.n >= 1.5 * a.n / w.n"
        ).fetchall()


def engine(directory: Path, gib: float, rounds: int) -> None:
    """The same files on one, two and four workers of a cluster of this machine."""
    lake = directory / "lake"
    lake.mkdir(exist_ok=True)
    path = made(directory / "few.log", few_failures(gib))
    for n in range(4):
        if not (lake / f"{n}.log").exists():
            os.link(path, lake / f"{n}.log")
    data = made(directory / "mixed.log", failures(60_000))
    for n in range(8):
        if not (lake / f"m{n}.log").exists():
            shutil.copy(data, lake / f"m{n}.log")
    size = (path.stat().st_size + 8 * data.stat().st_size) / (1 << 30)
    out = directory / "engine.parquet"
    commands: dict[str, Callable[[], Cost]] = {"here, --jobs 1": scan(lake, out, "--jobs", "1")}
    with started(1, directory) as one, started(2, directory) as two, started(4, directory) as four:
        commands |= {
            f"cluster of {n}": scan(lake, out, "--cluster", address) for n, address in ((1, one), (2, two), (4, four))
        }
        title = f"{size:.2f} GiB in 9 files on Dask (CPU and peak are the client's; {os.cpu_count()} CPUs here)"
        compare(title, size, "GiB", commands, rounds)


@contextmanager
def started(workers: int, directory: Path) -> Iterator[str]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=":0",
            local_directory=str(directory),
        ) as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        client.run(warm)
        yield cluster.scheduler_address


def warm() -> None:
    """Import what a batch needs, as a worker has that has done one."""
    import kvmwhy.fleet.checkpoint  # noqa: F401


def made(path: Path, content: Iterator[bytes]) -> Path:
    if not path.exists():
        with path.open("wb") as file:
            file.writelines(content)
    return path


def few_failures(gib: float) -> Iterator[bytes]:
    lines = int(gib * (1 << 30) / 10 / len(LINE % (0, 0, 0)))
    for part in range(10):
        for n in range(lines):
            yield LINE % (n // 3600 % 24, n // 60 % 60, (n * 2654435761 + part) % 1_000_000_007)
        yield LOG


def failures(count_: int) -> Iterator[bytes]:
    block = SMALL[SMALL.index(b"KVM internal error") :]
    kinds = [block.replace(b"ECX=00000000", b"ECX=%08x" % n) for n in range(2000)]
    assert len(set(kinds)) == 2000
    n = 1
    for _ in range(count_):
        n = n * 1103515245 + 12345 & 0x7FFFFFFF
        yield kinds[(n >> 8) % 2000]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--directory", type=Path, help="where inputs are made, and kept")
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--blocks", type=int, default=450_000)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="few,packed,dense,lake,small,triage,engine")
    parser.add_argument("--by-hand", help=argparse.SUPPRESS)
    parser.add_argument("--count", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.by_hand:
        by_hand(a.by_hand)
        return
    if a.count:
        count(a.count)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = a.directory or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        parts: dict[str, Callable[[], None]] = {
            "few": lambda: few(directory, a.gib, a.rounds),
            "packed": lambda: packed(directory, a.gib, a.rounds),
            "dense": lambda: dense(directory, a.blocks, a.rounds),
            "lake": lambda: lake(directory, a.blocks, a.rounds),
            "small": lambda: small(directory, a.files, a.rounds),
            "triage": lambda: triage(directory, a.rows, a.rounds),
            "engine": lambda: engine(directory, a.gib / 4, a.rounds),
        }
        for name in a.only.split(","):
            parts[name]()


if __name__ == "__main__":
    main()
