"""A case: one guest, whole. As a value, and as the bytes that ``replay.c`` runs.

A case says everything that decides what KVM reports: memory, registers, what a read of a device
returns, when to stop. A bundle is cases one after another; beside it lies JSON that says the same
cases in words, for people and for ``compare``.

Layout, little endian, every part on an 8-byte boundary (``struct head`` in replay.c):

    magic:u8[8] version:u32 size:u32 id:char[64]
    slots:u32 chunks:u32 flags:u32 max_exits:u32 timeout_ms:u32 failures:u32 stop_port:u32 pad:u32
    xcr0:u64 answer:u8[8] kvm_regs kvm_sregs kvm_vcpu_events
    slots   times  gpa:u64 size:u64 flags:u64
    chunks  times  gpa:u64 size:u64 data, padded with zeros
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from kvmwhy.abi import ioctl as abi
from kvmwhy.abi.cstruct import lay_out
from kvmwhy.machine.x86.state import (
    Events,
    Regs,
    Sregs,
    events_from_bytes,
    events_to_bytes,
    regs_from_bytes,
    regs_to_bytes,
    sregs_from_bytes,
    sregs_to_bytes,
)

MAGIC: Final = b"kvmwhy\0\n"
VERSION: Final = 1
ID_SIZE: Final = 64  # with its NUL
CAP204: Final = 1 << 0
EVENTS: Final = 1 << 1

HEAD: Final = lay_out(
    f"magic:u8[8] version:u32 size:u32 id:u8[{ID_SIZE}]"
    " slots:u32 chunks:u32 flags:u32 max_exits:u32 timeout_ms:u32 failures:u32 stop_port:u32 pad:u32"
    f" xcr0:u64 answer:u8[8] regs:u8[{abi.REGS.size}] sregs:u8[{abi.SREGS.size}] events:u8[{abi.VCPU_EVENTS.size}]",
    0,
)
HEAD_SIZE: Final = HEAD[-1].offset + HEAD[-1].length
_SLOT: Final = struct.Struct("<QQQ")
_CHUNK: Final = struct.Struct("<QQ")
_HEAD: Final = struct.Struct(f"<8sII{ID_SIZE}s8IQ8s{abi.REGS.size}s{abi.SREGS.size}s{abi.VCPU_EVENTS.size}s")

Mode = Literal["real16", "prot16", "prot32", "compat32", "long64"]
Access = Literal["none", "read", "write", "read-write", "fetch", "event-delivery", "page-walk"]


class CaseError(ValueError):
    """These bytes are no case, or this case cannot be written."""


class Memory(msgspec.Struct, frozen=True):
    """A memory slot. What no slot covers is a hole: an access there is KVM_EXIT_MMIO, or a failure."""

    gpa: int
    size: int
    readonly: bool = False


class Chunk(msgspec.Struct, frozen=True):
    """Bytes that lie in guest memory before it starts; what no chunk covers is zero."""

    gpa: int
    data: bytes


class Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a case is about, in words. Nothing here changes how it runs."""

    group: str  # the class of cases it belongs to
    about: str  # one sentence
    mode: Mode
    cpl: int = 0
    cap204: bool = False
    text: str = ""  # the instruction that matters
    insn: str = ""  # its bytes, in hex
    rip: int = 0  # its linear address
    access: Access = "none"
    gpa: int | None = None  # what it touches, where that has no memory
    needs: tuple[str, ...] = ()  # CPU features without which it is #UD, as iced names them


class Case(msgspec.Struct, frozen=True):
    """One guest that is about to run, and the rules of its run."""

    id: str
    memory: tuple[Memory, ...]
    chunks: tuple[Chunk, ...]
    regs: Regs
    sregs: Sregs  # its apic_base is not set: each vCPU keeps its own
    events: Events | None = None  # KVM_SET_VCPU_EVENTS, if given
    xcr0: int = 0  # KVM_SET_XCRS, unless 0
    cap204: bool = False  # KVM_CAP_EXIT_ON_EMULATION_FAILURE
    answer: bytes = bytes.fromhex("1122334455667788")  # what any read of a device or port returns, cut to its size
    stop_port: int = 0xEE  # an OUT to it ends the run
    failures: int = 1  # KVM_RUN again until so many exits other than MMIO and IO were seen
    max_exits: int = 16
    timeout_ms: int = 200
    facts: Facts | None = None


def pack(case: Case) -> bytes:
    """Raises CaseError if a field does not fit the format."""
    name = case.id.encode("ascii")
    if not 0 < len(name) < ID_SIZE:
        raise CaseError(f"the id {case.id!r} is not 1 to {ID_SIZE - 1} characters long")
    if len(case.answer) != 8:
        raise CaseError(f"{case.id}: an answer is 8 bytes, not {len(case.answer)}")
    body = b"".join(_SLOT.pack(m.gpa, m.size, abi.MEM_READONLY if m.readonly else 0) for m in case.memory)
    for chunk in case.chunks:
        if not any(m.gpa <= chunk.gpa and chunk.gpa + len(chunk.data) <= m.gpa + m.size for m in case.memory):
            raise CaseError(f"{case.id}: no slot holds {len(chunk.data)} bytes at {chunk.gpa:#x}")
        body += _CHUNK.pack(chunk.gpa, len(chunk.data)) + chunk.data + bytes(-len(chunk.data) % 8)
    flags = (CAP204 if case.cap204 else 0) | (EVENTS if case.events is not None else 0)
    head = _HEAD.pack(
        *(MAGIC, VERSION, HEAD_SIZE + len(body), name),
        *(len(case.memory), len(case.chunks), flags, case.max_exits, case.timeout_ms, case.failures, case.stop_port, 0),
        *(case.xcr0, case.answer, regs_to_bytes(case.regs), sregs_to_bytes(case.sregs)),
        events_to_bytes(case.events or Events()),
    )
    return head + body


def unpack(data: bytes | memoryview) -> Case:
    """The first case in ``data``, without its facts. Raises CaseError if there is none."""
    if len(data) < HEAD_SIZE:
        raise CaseError(f"{len(data)} bytes are less than a head of {HEAD_SIZE}")
    magic, version, size, name, slots, chunks, flags, max_exits, timeout, failures, port, _, *rest = _HEAD.unpack_from(
        data
    )
    if magic != MAGIC or version != VERSION:
        raise CaseError(f"magic {magic!r}, version {version}: not a case of version {VERSION}")
    if not HEAD_SIZE <= size <= len(data):
        raise CaseError(f"a case of {size} bytes in {len(data)}")
    xcr0, answer, regs, sregs, events = rest
    memory, contents, at = [], [], HEAD_SIZE
    try:
        for _ in range(slots):
            gpa, length, slot_flags = _SLOT.unpack_from(data, at)
            memory.append(Memory(gpa, length, bool(slot_flags & abi.MEM_READONLY)))
            at += _SLOT.size
        for _ in range(chunks):
            gpa, length = _CHUNK.unpack_from(data, at)
            at += _CHUNK.size
            contents.append(Chunk(gpa, bytes(data[at : at + length])))
            at += length + -length % 8
    except struct.error as error:
        raise CaseError(f"slots and chunks run past the end: {error}") from None
    if at != size:
        raise CaseError(f"slots and chunks end at {at}, the case at {size}")
    return Case(
        *(name.rstrip(b"\0").decode("ascii"), tuple(memory), tuple(contents)),
        *(regs_from_bytes(regs), sregs_from_bytes(sregs), events_from_bytes(events) if flags & EVENTS else None),
        *(xcr0, bool(flags & CAP204), answer, port, failures, max_exits, timeout),
    )


def pack_all(cases: Iterable[Case]) -> bytes:
    return b"".join(map(pack, cases))


def unpack_all(bundle: bytes) -> Iterator[Case]:
    view = memoryview(bundle)
    while view:
        yield unpack(view)
        view = view[int.from_bytes(view[12:16], "little") :]


def describe(cases: Iterable[Case]) -> bytes:
    """The JSON beside a bundle: one object per line, by id. Addresses are hex strings."""
    lines = []
    for case in cases:
        facts = msgspec.to_builtins(case.facts) if case.facts else {}
        for key in ("rip", "gpa"):
            if facts.get(key) is not None:
                facts[key] = hex(facts[key])
        lines.append(msgspec.json.encode({"id": case.id, **facts}))
    return b"\n".join(lines) + b"\n"
