"""Mutates genuine evidence and reads it: nothing may raise, hang, or take more than its share of time.

    .venv/bin/python tools/fuzz.py [--runs 100000] [--seed 1] [--reader qemu.log] [--window 500] [--growth]

Seeds are tests/fixtures and, if they are there, the public reports that KVMWHY_CORPUS names; some inputs are mangled
as people mangle what they post (tests/mangles.py). With --window an input is a few lines about one that the reader
looks for, and not a whole text: ten times as many are read in the same time. Any that raises is kept in the directory
given by --keep. With --growth the inputs that took longest are read again at 2, 4 and 8 times their size, and a time
that grows faster than the size is reported.
"""

from __future__ import annotations

import argparse
import gzip
import heapq
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from kvmwhy import explain, to_json, to_text
from kvmwhy.fleet.extract import Known, Place, is_image, sightings
from kvmwhy.ingest.archives import UnpackBudget, members
from kvmwhy.ingest.normalize import clean
from kvmwhy.pipeline import records
from kvmwhy.readers import read
from kvmwhy.readers.registry import OF_BYTES, READERS, readers_of, search
from kvmwhy.record import Failure

ROOT: Final = Path(__file__).parent.parent
FIXTURES: Final = ROOT / "tests" / "fixtures"
CORPUS: Final = Path(os.environ.get("KVMWHY_CORPUS", ROOT.parent / "shared" / "corpus"))
SLOWEST: Final = 8  # inputs of each reader whose growth is measured
WARM: Final = 200  # inputs, the first of which import what is imported late, and take longest for that
LINEAR: Final = 1.6  # times as long for each byte at eight times the size
SMALLEST: Final = 32 << 10
MEASURABLE: Final = 0.2  # seconds: below, the clock's steps show more than the reader
LARGEST: Final = 24 << 10
HANGS: Final = 10  # seconds
TOKENS: Final = (
    b"KVM internal error. Suberror: ", b"extra data[0]: 0x", b"emulation failure\n", b"KVM: entry failed, hardware error 0x",  # noqa: E501
    b"Code=", b"RAX=", b"EAX=", b"EFER=", b"CR0=", b"GDT=", b"\n", b"\r\n", b"\0", b"=3D", b"=\n", b"&lt;", b"<b>", b"\x1b[31m", b"> ",  # noqa: E501
    b'{"log":"', b'","stream":"stderr"}\n', b'{"schema":1,"kind":"other"}\n', b"Jan 02 03:04:05 h QEMU[1]: ", b"[ 1.5] ",  # noqa: E501
    b'time="x" level=error msg="', b"2026-01-02T03:04:05Z stderr P ", b"__CURSOR=a\nMESSAGE\n", b'{"version":2}\n[0.1,"o","',  # noqa: E501
    b"*** Guest State ***\n", b"VMCB Control Area:\n", b"CR0: actual=0x", b"kvm_exit: vcpu 0 reason ", b"kvm_emulate_insn: 0:8086:d9 03 (prot64) failed\n",  # noqa: E501
    b"kvm_regs { rax: 1, ", b"kvm_segment {", b"KVM exit reason: 17 (", b"FailEntry(", b"efail-1 ", b"\xff" * 8, b"\x7fELF\x02\x01\x01",  # noqa: E501
)  # fmt: skip


def seeds() -> list[bytes]:
    found = []
    for path in (*sorted(FIXTURES.rglob("*")), *sorted(CORPUS.glob("*/evidence.txt"))):
        if path.is_file() and path.suffix not in {".json", ".py"}:
            data = path.read_bytes()
            if data[:2] == b"\x1f\x8b":
                data = gzip.decompress(data)
            if data:
                found += [data[:LARGEST], data[-LARGEST:]] if len(data) > LARGEST else [data]
    return list(dict.fromkeys(found))


@cache
def ways() -> tuple[Callable[[str], bytes], ...]:
    """What people do to a text before they post it."""
    sys.path.insert(0, os.fspath(ROOT / "tests"))
    from mangles import MANGLES

    return tuple(MANGLES.values())


class Windows(NamedTuple):
    """Where to begin: the lines of every seed, and which of them hold what a reader looks for."""

    texts: list[list[bytes]]
    anchored: dict[str, list[tuple[int, int]]]  # by the module of a reader: (text, line); "" for every reader's
    size: int  # bytes

    def draw(self, pick: random.Random, module: str) -> bytes:
        """A few whole lines, the anchored one among them."""
        text, line = pick.choice(self.anchored.get(module) or self.anchored[""])
        lines, start = self.texts[text], max(0, line - pick.choice((0, 0, 1, 2, 4)))
        out = b"\n".join(lines[start : start + pick.choice((1, 2, 4, 8, 16))])
        begin = max(0, len(b"\n".join(lines[start:line])) - self.size // 2)
        return out[begin : begin + self.size] + b"\n"


def windows(pool: list[bytes], size: int) -> Windows:
    texts = [data.split(b"\n") for data in pool]
    anchored: dict[str, list[tuple[int, int]]] = {"": []}
    for number, lines in enumerate(texts):
        for at, line in enumerate(lines):
            modules = [reader.module for reader in readers_of(line[: 4 * size].decode("utf-8", "replace"))]
            for module in (*modules, "") if modules else ():
                anchored.setdefault(module, []).append((number, at))
    return Windows(texts, anchored, size)


def mutate(pick: random.Random, data: bytearray, pool: list[bytes]) -> bytes:
    for _ in range(pick.choice((1, 1, 2, 3, 5, 9))):
        at = pick.randrange(len(data) + 1)
        match pick.randrange(9):
            case 0:
                data[at : at + 1] = pick.randbytes(1)
            case 1:
                del data[at : at + pick.choice((1, 2, 8, 80, 800))]
            case 2:
                data[at:at] = pick.choice(TOKENS)
            case 3:
                data[at:at] = data[at : at + pick.choice((1, 16, 200))] * pick.choice((2, 10, 50))
            case 4:
                other = pick.choice(pool)
                start = pick.randrange(len(other))
                data[at:at] = other[start : start + pick.choice((10, 100, 2000))]
            case 5:
                del data[at:]
            case 6:
                del data[:at]
            case 8:
                data[:] = pick.choice(ways())(data.decode("utf-8", "replace"))[: 2 * LARGEST]
            case 7:
                data[at : at + 8] = pick.choice((b"\0" * 8, b"\xff" * 8, b"9" * 8, b"f" * 8, b" " * 8))
    return bytes(data[: 2 * LARGEST]) or b"\0"


def answered(data: bytes) -> None:
    """All the way to what is shown."""
    for diagnosis in explain(data):
        to_json(diagnosis)
        to_text(diagnosis)
        to_text(diagnosis, depth="screen")


def through_containers(data: bytes) -> None:
    packed = gzip.compress(data, 1)
    for blob in (data, packed[:-3], packed):
        for member in members(iter((blob,)), "in", lambda _: None, UnpackBudget(total=1 << 24)):
            for _ in member.chunks:
                pass


def unlikely(data: bytes) -> None:
    """Where no anchor is, nothing can be read: a text, as it is searched, in whose words no other characters stand.

    A mail in base64 that went through a logger is the exception: only a whole text is made plain so often.
    """
    text = clean(data).text.encode("utf-8", "replace")
    if not is_image(text) and b"base64" not in text and not search().hits(text) and (failures := read(text).failures):
        raise AssertionError(f"no anchor, and yet there are {len(failures)}: {failures[0].kind}")


def scanned(data: bytes) -> None:
    """Behind prefixes of several kinds, the same in whatever chunks."""
    lines = data.split(b"\n")
    for prefix in (b"", b"Jan 02 03:04:05 h QEMU[1]: ", b'{"_PID":"1","MESSAGE":"'):
        log = b"\n".join(prefix + line + b'"}' * prefix.startswith(b"{") for line in lines)
        known: Known[Failure] = Known(lambda failure: failure)
        ways = ((log,), (log[at : at + 999] for at in range(0, len(log), 999)))
        one, other = ([(s.key, s.offset, s.times) for s in sightings(way, known, Place())] for way in ways)
        if one != other:
            raise AssertionError("it depends on the chunks")


def targets() -> dict[str, Callable[[bytes], object]]:
    """Every reader by itself, and the ways in."""
    out: dict[str, Callable[[bytes], object]] = {
        "all": read,
        "answers": answered,
        "stream": lambda data: list(records(data[at : at + 999] for at in range(0, len(data), 999))),
        "containers": through_containers,
        "anchors": unlikely,
        "scan": scanned,
    }
    for kind in READERS:
        reader = kind.load()
        out[kind.module] = lambda data, r=reader: r.read(clean(data), path=None, first_line=1)  # type: ignore[misc]
    for _, kind in OF_BYTES:
        reader = kind.load()
        out[kind.module] = lambda data, r=reader: r.detect(data) and r.read(data, path=None)  # type: ignore[misc]
    return out


def growth(target: Callable[[bytes], object], data: bytes) -> float:
    """How many times as long a byte takes at eight times the size, from a size on at which time can be measured."""
    data *= 1 + SMALLEST // len(data)
    costs = []
    for times in (1, 2, 4, 8):
        started = time.process_time()
        with suppress(Exception):
            target(data * times)
        costs.append((time.process_time() - started) / times)
    return costs[3] / max(costs[0], 1e-4) if 8 * costs[3] > MEASURABLE else 0.0


def hung(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"longer than {HANGS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reader", help="only this one")
    parser.add_argument("--window", type=int, help="bytes of a text that are an input; without it, the whole text is")
    parser.add_argument("--growth", action="store_true", help="read the slowest again at 2, 4 and 8 times their size")
    parser.add_argument("--keep", type=Path, help="where inputs that failed go")
    options = parser.parse_args()
    signal.signal(signal.SIGVTALRM, hung)  # of the CPU's time: the machine may have other work
    pool, failed = seeds(), 0
    parts = windows(pool, options.window) if options.window else None
    for name, target in targets().items():
        if options.reader not in {None, name}:
            continue
        pick = random.Random(f"{options.seed} {name}")  # noqa: S311 -- to be repeated, not to be secret
        slow: list[tuple[float, int, bytes]] = []
        begun = time.process_time()
        for run in range(options.runs):
            begin = parts.draw(pick, name) if parts else pick.choice(pool)
            data = mutate(pick, bytearray(begin), pool)[: 2 * options.window if parts else None]
            started = time.process_time()
            signal.setitimer(signal.ITIMER_VIRTUAL, HANGS)
            try:
                target(data)
            except Exception:  # noqa: BLE001 -- any is a defect
                failed += 1
                print(f"{name}, run {run}:\n{traceback.format_exc(limit=-3)}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{name}-{options.seed}-{run}").write_bytes(data)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            cost = (time.process_time() - started) / (len(data) + 4096) * 1024
            if run >= min(WARM, options.runs // 2):
                (heapq.heappush if len(slow) < SLOWEST else heapq.heappushpop)(slow, (cost, run, data))
        spent = time.process_time() - begun
        print(
            f"{name:<16} {options.runs} inputs, {spent:.0f} s, slowest {max(slow)[0] * 1000:.2f} ms/KiB, failed so far {failed}",  # noqa: E501
            flush=True,
        )
        for _, run, data in sorted(slow, reverse=True) if options.growth else ():
            signal.setitimer(signal.ITIMER_VIRTUAL, 8 * HANGS)
            if (times := growth(target, data)) > LINEAR:
                failed += 1
                print(f"{name}, run {run}: {times:.1f} times as long for each byte at 8 times the size", flush=True)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
