"""Logs made of the project's fixtures, and what the reader finds in them."""

# ruff: noqa: S311 -- the same each time is what is wanted
from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from kvmwhy.fleet.extract import Known, Place, sightings
from kvmwhy.pipeline import records
from kvmwhy.record import Failure, Host, Source

ROOT = Path(__file__).parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
NOISE = b"Nov 22 10:11:12 host01 qemu-system-x86_64[12345]: info: block job progress 42% of drive-virtio-disk0\n"
BLOCK = (ROOT / "examples" / "avx-move-on-mmio.log").read_bytes()


@cache
def fixtures() -> tuple[tuple[bytes, tuple[Failure, ...]], ...]:
    """Every text that shows failures, whole lines, with the failures that the reader finds in it alone.

    Not the refused set-ups: lines of them that follow each other are one refusal to a reader, and rightly so. Nor
    kernel logs without a dump: amid a VMM's lines they may be its guest's console. Nor QEMU's logs of its own emulator
    and of resets, which are told only where an input tells of nothing else.
    """
    out = []
    for path in sorted([*FIXTURES.rglob("*.log"), *FIXTURES.rglob("*.dmesg")]):
        apart = {"truths", "truths-lab", "qemu-debug"} & set(path.parts)
        if apart or path.stem.endswith("-off"):
            continue
        data = path.read_bytes()
        failures = tuple(record.failure for record in records((data,)))
        if failures and len(data) < 64 << 10:
            out.append((data if data.endswith(b"\n") else data + b"\n", failures))
    return tuple(out)


def distinct(number: int) -> bytes:
    """One block, like all others but for one register that no diagnosis looks at."""
    return BLOCK.replace(b"RCX=0000000000000000", b"RCX=%016x" % number)


def counts(failures: Iterable[tuple[Failure, int]]) -> Counter[str]:
    """How often there is each, by what its own lines say, and not those around it."""
    out: Counter[str] = Counter()
    for failure, times in failures:
        bare = replace(failure, source=Source(vcpu=failure.source.vcpu), host=Host(), repairs=())
        out[repr(bare)] += times
    return out


def noise(rng: random.Random, size: int) -> bytes:
    return NOISE * (size // len(NOISE) + rng.randrange(2))


def made_log(seed: int, parts: int = 16) -> tuple[bytes, Counter[str]]:
    """Fixtures in any order, some again and again, with noise of any length between them."""
    rng = random.Random(seed)
    out, wanted = [], []
    for _ in range(parts):
        data, failures = rng.choice(fixtures())
        times = rng.choice((1, 1, 1, 2, 40))
        gap = noise(rng, rng.choice((0, 0, 200, 60_000))) if times > 1 else b""
        out += [data + gap] * times
        out.append(noise(rng, rng.choice((20_000, 70_000, 600_000))))
        wanted += [(f, times) for f in failures]
    return b"".join(out), counts(wanted)


def chunked(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size
    if at < len(data):
        yield data[at:]


def found_in(chunks: Iterable[bytes]) -> Counter[str]:
    return counts((seen.made, seen.times) for seen in sightings(chunks, KNOWN, Place()))


def _itself(failure: Failure) -> Failure:
    return failure


KNOWN = Known(_itself)
