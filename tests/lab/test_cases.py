"""lab.cases and lab.catalogue: the format that replay.c reads, and what is written in it."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter

import msgspec
import pytest

from kvmwhy.machine.x86.state import Events, Regs, replace
from lab import layout
from lab.cases import HEAD, HEAD_SIZE, Case, CaseError, Chunk, Memory, describe, pack, pack_all, unpack, unpack_all
from lab.catalogue import catalogue


@pytest.fixture
def case() -> Case:
    return Case(
        id="golden",
        memory=(Memory(0, 0x1000), Memory(0x80000, 0x1000, readonly=True)),
        chunks=(Chunk(0x10, b"\xd9\x03\xf4"),),
        regs=Regs(rax=0x11, rip=0x10),
        sregs=layout.sregs("real16"),
        events=Events(exception_injected=1, exception_nr=6),
        xcr0=7,
        cap204=True,
        max_exits=5,
        timeout_ms=100,
        failures=2,
    )


def test_head_is_what_replay_reads(case: Case) -> None:
    """The bytes of a case, part by part, against numbers written out here."""
    data = pack(case)
    assert data[:80] == b"kvmwhy\0\n" + struct.pack("<II", 1, len(data)) + b"golden".ljust(64, b"\0")
    assert data[80:112] == struct.pack("<8I", 2, 1, 3, 5, 100, 2, 0xEE, 0)
    assert data[112:128] == struct.pack("<Q", 7) + bytes.fromhex("1122334455667788")
    assert data[128:136] == struct.pack("<Q", 0x11)
    assert data[128 + 16 * 8 : 128 + 17 * 8] == struct.pack("<Q", 0x10)
    assert HEAD_SIZE == 128 + 144 + 312 + 64
    assert data[HEAD_SIZE - 64 : HEAD_SIZE - 62] == b"\x01\x06"
    assert data[HEAD_SIZE:] == (
        struct.pack("<6Q", 0, 0x1000, 0, 0x80000, 0x1000, 2)
        + struct.pack("<QQ", 0x10, 3)
        + b"\xd9\x03\xf4".ljust(8, b"\0")
    )


def test_layout_table_agrees_with_the_bytes(case: Case) -> None:
    """HEAD, which documents the format, has each field where pack() puts it."""
    data = pack(case)
    fields = {field.name: field.read(data) for field in HEAD}
    assert fields["slots"] == 2
    assert fields["xcr0"] == 7
    assert fields["answer"] == case.answer
    assert HEAD[-1].offset == HEAD_SIZE - 64


def test_round_trip(case: Case) -> None:
    """Reading gives the case that was written; only its facts live elsewhere."""
    assert unpack(pack(case)) == case
    assert unpack(pack(replace(case, events=None))).events is None


def test_catalogue_round_trip() -> None:
    """Every case of the catalogue survives the bundle."""
    cases = catalogue()
    assert [replace(case, facts=None) for case in cases] == list(unpack_all(pack_all(cases)))


@pytest.mark.parametrize("size", [0, 1, HEAD_SIZE - 1, HEAD_SIZE, HEAD_SIZE + 24, HEAD_SIZE + 70])
def test_truncated(case: Case, size: int) -> None:
    """A case cut short is an error, wherever the cut is."""
    with pytest.raises(CaseError):
        unpack(pack(case)[:size])


@pytest.mark.parametrize(("at", "value"), [(0, 0), (8, 2), (12, 4), (80, 200), (84, 200), (84, 0)])
def test_damaged_head(case: Case, at: int, value: int) -> None:
    """So is one whose magic, version, size or counts are wrong."""
    data = bytearray(pack(case))
    data[at] = value
    with pytest.raises(CaseError):
        unpack(bytes(data))


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "x" * 64},
        {"answer": b"\x11"},
        {"chunks": (Chunk(0xFFF, b"ab"),)},
        {"chunks": (Chunk(0xD0000000, b"a"),)},
    ],
)
def test_what_cannot_be_written(case: Case, change: dict[str, object]) -> None:
    """A case that replay could not run as meant is not written."""
    with pytest.raises(CaseError):
        pack(msgspec.structs.replace(case, **change))


def test_catalogue_is_large_and_each_case_is_itself() -> None:
    """At least 300 cases, no id twice, each id naming mode, CPL, capability and group of the case."""
    cases = catalogue()
    assert len(cases) >= 300
    assert max(Counter(case.id for case in cases).values()) == 1
    for case in cases:
        assert case.facts is not None
        assert re.fullmatch(r"[a-z0-9/-]{1,63}", case.id)
        mode, cpl, capability, group, _ = case.id.split("/")
        assert (mode, int(cpl), capability == "cap204") == (case.facts.mode, case.facts.cpl, case.cap204)
        assert (group, case.cap204) == (case.facts.group, case.facts.cap204)
        assert case.sregs.cs.dpl == case.facts.cpl or group == "entry"


def test_catalogue_covers_what_matters() -> None:
    """Modes, privilege, capability and every way that leads to no memory."""
    cases = catalogue()
    facts = [case.facts for case in cases if case.facts]
    assert {f.mode for f in facts} == {"real16", "prot16", "prot32", "compat32", "long64"}
    assert {(f.cpl, f.cap204) for f in facts} == {(0, False), (0, True), (3, False), (3, True)}
    assert {f.access for f in facts} == {"none", "read", "write", "read-write", "fetch", "event-delivery", "page-walk"}
    groups = Counter(f.group for f in facts)
    assert groups.keys() >= {"data", "cached", "ram", "readonly", "fetch", "edge", "event-idt", "event-stack", "entry"}
    assert sum(case.failures > 1 for case in cases) >= 20


def test_instruction_lies_where_the_facts_say() -> None:
    """The bytes of the instruction are at its address, as far as there is memory."""
    for case in catalogue():
        facts = case.facts
        assert facts is not None
        if not facts.insn or facts.group in {"fetch", "stale"}:
            continue
        memory = bytearray(layout.RAM_SIZE)
        for chunk in case.chunks:
            memory[chunk.gpa : chunk.gpa + len(chunk.data)] = chunk.data
        insn = bytes.fromhex(facts.insn)[: layout.RAM_SIZE - facts.rip]
        assert memory[facts.rip : facts.rip + len(insn)] == insn, case.id


def test_description_is_one_object_per_case() -> None:
    """The JSON beside a bundle names each case and what it does."""
    lines = [json.loads(line) for line in describe(catalogue()).splitlines()]
    assert [line["id"] for line in lines] == [case.id for case in catalogue()]
    assert all(line["about"] and line["group"] and line["rip"].startswith("0x") for line in lines)
