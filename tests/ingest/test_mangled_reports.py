"""However a report was posted, its record is that of the report as it was printed: traces, kernel logs, VMMs' dumps."""

from __future__ import annotations

import gzip
import os
import quopri
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.readers import read
from kvmwhy.record import Failure
from mangles import MANGLES, OF_QEMU

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = Path(os.environ.get("KVMWHY_CORPUS", ROOT.parent / "shared" / "corpus"))
REPORTS = {
    "QEMU, 64 bits": "long64-flds/qemu.log",
    "QEMU, 16 bits, of 5.10": "lab-svm/qemu-5.10/real16-flds/qemu.log",
    "VMCS": "kernel-log/vmx-7.3.dmesg",
    "VMCB": "kernel-log/svm-6.1.dmesg",
    "trace-cmd": "trace/7.3.4+deb13-cloud-amd64/report.txt.gz",
    "ftrace": "trace/6.1.0-56-cloud-amd64/tgid.txt.gz",
}
_NOT_SAID = {"source", "host", "repairs", "damage", "trace", "arch_from", "seen_at"}
_ALIKE = 0.95  # of the shared reports, each mangled in some way: a few are cut or mixed already


def text_of(path: Path) -> str:
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    data = quopri.decodestring(data) if b"=3D" in data else data
    return data.decode("utf-8", "replace").rstrip("\n") + "\n"


def record(data: bytes) -> list[dict[str, Any]]:
    return [fields(failure) for failure in read(data).failures]


def fields(failure: Failure) -> dict[str, Any]:
    return {name: getattr(failure, name) for name in failure.__struct_fields__ if name not in _NOT_SAID}


@cache
def clean(name: str) -> list[dict[str, Any]]:
    return record(text_of(FIXTURES / REPORTS[name]).encode())


@pytest.mark.parametrize("report", REPORTS)
def test_a_fixture_mangled_in_any_way_is_read_alike(report: str) -> None:
    """Wrapped, quoted, encoded, marked up or behind any collector's prefix: no value changes, none is lost."""
    text = text_of(FIXTURES / REPORTS[report])
    assert clean(report)
    differing = [name for name, mangle in MANGLES.items() if record(mangle(text)) != clean(report)]
    assert not differing


def shared() -> Iterator[str]:
    for path in sorted(SHARED.glob("*/evidence.txt")):
        if path.stat().st_size < 20_000:
            yield text_of(path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared reports are not here (KVMWHY_CORPUS names them)")
def test_public_reports_mangled_are_read_alike() -> None:
    """Of a sample, one mangling a report: `tools/mangle.py` does all and names what differs."""
    ways = [mangle for name, mangle in MANGLES.items() if name.partition(", then")[0] not in OF_QEMU]
    pairs = [(text, ways[n * 7 % len(ways)]) for n, text in enumerate(shared())]
    pairs = [(text, mangle) for text, mangle in pairs if record(text.encode())]
    alike = sum(record(text.encode()) == record(mangle(text)) for text, mangle in pairs)
    assert alike >= _ALIKE * len(pairs)
