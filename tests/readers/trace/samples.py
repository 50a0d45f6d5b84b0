"""Genuine traces, and traces made to order: format files, ring buffer pages and trace.dat, byte by byte."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers.trace import ftrace, trace_dat
from kvmwhy.readers.trace.formats import Formats
from kvmwhy.readers.trace.vcpu_tracker import Story
from kvmwhy.record import Failure

FIXTURES = Path(__file__).parents[2] / "fixtures" / "trace"
RELEASES = sorted(path.name for path in FIXTURES.iterdir())
COLUMNS = ("plain", "tgid", "no-irq-info", "latency")
DATS = ("v6", "v7-none", "v7-zstd")
PAGE = 4096


def load(release: str, name: str) -> bytes:
    return gzip.decompress((FIXTURES / release / f"{name}.gz").read_bytes())


def text_of(release: str, name: str) -> str:
    return load(release, f"{name}.txt").decode()


def formats_of(release: str) -> Formats:
    return Formats.parse(text_of(release, "formats"))


def from_text(text: str) -> tuple[Failure, ...]:
    return ftrace.read(Text(text)).failures


def from_pages(release: str, folder: str = "raw") -> tuple[Failure, ...]:
    pages = {cpu: load(release, f"{folder}/cpu{cpu}") for cpu in (0, 1)}
    return trace_dat.read_pages(pages, formats_of(release)).failures


def told(text: str) -> list[Failure]:
    """The failures of a text in the order in which the story ends them, none of them merged."""
    story = Story()
    failures = [failure for event in ftrace.events(text) for failure in story.take(event)]
    return [*failures, *story.end()]


# -- made to order --------------------------------------------------------------------------------

COMMON = (
    ("unsigned short common_type", 2, False),
    ("unsigned char common_flags", 1, False),
    ("unsigned char common_preempt_count", 1, False),
    ("int common_pid", 4, True),
)
# Declaration, size, signed: as Linux 6.18 has them, without its offsets.
EVENTS: dict[str, tuple[tuple[str, int, bool], ...]] = {
    "kvm_entry": (("unsigned int vcpu_id", 4, False), ("unsigned long rip", 8, False)),
    "kvm_exit": (
        ("unsigned int exit_reason", 4, False),
        ("unsigned long guest_rip", 8, False),
        ("u32 isa", 4, False),
        ("u64 info1", 8, False),
        ("u64 info2", 8, False),
        ("u32 intr_info", 4, False),
        ("u32 error_code", 4, False),
        ("unsigned int vcpu_id", 4, False),
    ),
    "kvm_emulate_insn": (
        ("__u64 rip", 8, False),
        ("__u32 csbase", 4, False),
        ("__u8 len", 1, False),
        ("__u8 insn[15]", 15, False),
        ("__u8 flags", 1, False),
        ("__u8 failed", 1, False),
    ),
    "kvm_userspace_exit": (("__u32 reason", 4, False), ("int errno", 4, True)),
    "kvm_inj_exception": (("u8 exception", 1, False), ("u8 has_error", 1, False), ("u32 error_code", 4, False)),
    "kvm_mmio": (("u32 type", 4, False), ("u32 len", 4, False), ("u64 gpa", 8, False), ("u64 val", 8, False)),
    "kvm_fpu": (("u32 load", 4, False),),
}
IDS = {name: 300 + n for n, name in enumerate(EVENTS)}


class Layout:
    """Tracepoints with their fields in an order of one's own, each at its natural alignment."""

    def __init__(self, orders: Mapping[str, Sequence[int]] | None = None, ids: Mapping[str, int] = IDS) -> None:
        self.ids = dict(ids)
        self.places: dict[str, dict[str, tuple[int, int, bool]]] = {}
        self.sizes: dict[str, int] = {}
        blocks = []
        for name, declared in EVENTS.items():
            order = (orders or {}).get(name, range(len(declared)))
            fields = [*COMMON, *(declared[n] for n in order)]
            blocks.append(self._format(name, fields))
        self.text = "\n".join(blocks)
        self.formats = Formats.parse(self.text)

    def _format(self, name: str, fields: Iterable[tuple[str, int, bool]]) -> str:
        lines, at, places = [f"name: {name}", f"ID: {self.ids[name]}", "format:"], 0, {}
        for declaration, size, signed in fields:
            unit = 1 if "[" in declaration else size
            at = -(-at // unit) * unit
            places[declaration.split()[-1].partition("[")[0]] = (at, size, signed)
            lines.append(f"\tfield:{declaration};\toffset:{at};\tsize:{size};\tsigned:{int(signed)};")
            at += size
        self.places[name], self.sizes[name] = places, -(-at // 4) * 4
        return "\n".join([*lines, "", 'print fmt: "never read"', ""])

    def event(self, name: str, pid: int, **fields: Any) -> bytes:
        out = bytearray(self.sizes[name])
        insn = fields.pop("insn", None)
        if insn is not None:
            fields |= {"len": len(insn)}
            at, size, _ = self.places[name]["insn"]
            out[at : at + size] = insn.ljust(size, b"\xf4")
        for key, value in {"common_type": self.ids[name], "common_pid": pid, **fields}.items():
            at, size, signed = self.places[name][key]
            out[at : at + size] = value.to_bytes(size, "little", signed=signed)
        return bytes(out)


def record(payload: bytes, delta: int = 0) -> bytes:
    """An event's head and bytes (``struct ring_buffer_event``)."""
    words = len(payload) // 4
    if words <= 28:
        return struct.pack("<I", delta << 5 | words) + payload
    return struct.pack("<II", delta << 5, len(payload) + 4) + payload


def page(ns: int, *records: bytes, missed: int | None = None, flags: int = 0) -> bytes:
    body = b"".join(records)
    assert len(body) <= PAGE - 16
    commit = len(body) | flags
    if missed is not None:
        commit |= 1 << 31 | (1 << 30 if missed else 0)
        body += struct.pack("<Q", missed) if missed else b""
    return (struct.pack("<QQ", ns, commit) + body).ljust(PAGE, b"\0")


HEADER_PAGE = (
    b"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    b"\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    b"\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    b"\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n"
)


def _sized(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _formats(layout: Layout) -> bytes:
    blocks = [("name: " + block).encode() for block in layout.text.split("name: ")[1:]]
    return struct.pack("<I", 1) + b"kvm\0" + struct.pack("<I", len(blocks)) + b"".join(map(_sized, blocks))


def dat_6(layout: Layout, cpus: Sequence[bytes]) -> bytes:
    """trace-cmd.dat.v6(5)."""
    out = b"\x17\x08\x44tracing6\0\0\x08" + struct.pack("<I", PAGE)
    out += b"header_page\0" + _sized(HEADER_PAGE) + b"header_event\0" + _sized(b"\n") + struct.pack("<I", 0)
    out += _formats(layout) + struct.pack("<IIQI", 0, 0, 0, len(cpus)) + b"options  \0\0\0flyrecord\0"
    at = -(-(len(out) + 16 * len(cpus)) // PAGE) * PAGE
    body = b""
    for data in cpus:
        out += struct.pack("<QQ", at + len(body), len(data))
        body += data
    return out.ljust(at, b"\0") + body


def dat_7(layout: Layout, cpus: Sequence[bytes], *, how: str = "none", chunk: int = 2 * PAGE) -> bytes:
    """trace-cmd.dat.v7(5), plain or with ``zlib``."""
    packed = how != "none"

    def section(number: int, data: bytes) -> bytes:
        if packed:
            small = zlib.compress(data)
            data = struct.pack("<II", len(small), len(data)) + small
        return struct.pack("<HHIQ", number, int(packed), 0, len(data)) + data

    def chunks(data: bytes) -> bytes:
        if not packed:
            return data
        pieces = [data[n : n + chunk] for n in range(0, len(data), chunk)]
        small = [zlib.compress(piece) for piece in pieces]
        listed = (struct.pack("<II", len(s), len(p)) + s for s, p in zip(small, pieces, strict=True))
        return struct.pack("<I", len(pieces)) + b"".join(listed)

    out = bytearray(b"\x17\x08\x44tracing7\0\0\x08" + struct.pack("<I", PAGE) + how.encode() + b"\x001\0")
    link = len(out)
    out += bytes(8)
    header_at = len(out)
    out += section(16, b"header_page\0" + _sized(HEADER_PAGE) + b"header_event\0" + _sized(b"\n"))
    formats_at = len(out)
    out += section(18, _formats(layout))
    buffer_at = len(out)
    out += struct.pack("<HHIQ", 3, int(packed), 0, 0)
    places = []
    for number, data in enumerate(cpus):
        out += bytes(-len(out) % PAGE)
        stored = chunks(data)
        places.append(struct.pack("<IQQ", number, len(out), len(stored) - (4 if packed else 0)))
        out += stored
    buffer = struct.pack("<Q", buffer_at) + b"\0local\0" + struct.pack("<II", PAGE, len(cpus)) + b"".join(places)
    options = b"".join(
        struct.pack("<HI", number, len(data)) + data
        for number, data in ((16, struct.pack("<Q", header_at)), (18, struct.pack("<Q", formats_at)), (3, buffer))
    )
    out[link : link + 8] = struct.pack("<Q", len(out))
    out += section(0, options + struct.pack("<HIQ", 0, 8, 0))
    return bytes(out)
