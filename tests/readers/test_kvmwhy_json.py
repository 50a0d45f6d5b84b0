"""kvmwhy's JSON holds all that was read: read back it is the same record, and explained it is the same object."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, reports, u32, u64
from kvmwhy.contract import (
    ControlPart,
    EmulationPart,
    EventPart,
    ExitSeenPart,
    Explanation,
    HostEventPart,
    HostPart,
    SetupPart,
    SourcePart,
)
from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.record import (
    At,
    ControlBlock,
    Emulation,
    Event,
    Exit,
    Failure,
    Host,
    HostEvent,
    Setup,
    Source,
    Speaker,
    Symptom,
)
from kvmwhy.render.json import to_json

FIXTURES = Path(__file__).parent.parent / "fixtures"
FILES = [path for path in sorted(FIXTURES.rglob("*")) if path.suffix in {".log", ".page"}]

texts = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=12)
hosts = st.builds(
    Host,
    kernel=st.none() | texts,
    qemu=st.none() | texts,
    ram_bytes=st.none() | u64,
    vendor=st.sampled_from([None, "vmx", "svm", "tdx", "pvm"]),
    vendor_from=st.none() | texts,
    hypervisor=st.none() | texts,
    rivals=st.lists(texts, max_size=2).map(tuple),
    unrestricted_guest_hint=st.booleans(),
    is_physical=st.booleans(),
    cpu_name=st.none() | texts,
    dmi=st.none() | texts,
    parameters=st.dictionaries(texts, texts, max_size=2),
    machine=st.none() | texts,
    cpu_model=st.none() | texts,
    devices=st.lists(texts, max_size=2).map(tuple),
    remarks=st.lists(texts, max_size=2).map(tuple),
    confidential=st.sampled_from([None, "sev", "snp", "tdx"]),
    events=st.lists(
        st.builds(
            HostEvent,
            kind=texts,
            at=st.builds(At, line=st.none() | u32),
            fields=st.dictionaries(texts, u64 | texts, max_size=2),
        ),
        max_size=2,
    ).map(tuple),
)
fields = st.dictionaries(texts, u64 | texts, max_size=3)
names = st.sampled_from(["exit_reason", "rip", "pin_based_controls"])
events = st.builds(
    Event,
    name=texts,
    time=st.none() | st.integers(0, 1 << 52).map(lambda ns: ns / 1e9),
    fields=st.dictionaries(names, u64 | texts, max_size=3),
)
parts = st.fixed_dictionaries(
    {
        "host": hosts,
        "cpu_shared": st.booleans(),
        "silent": st.booleans(),
        "arch": st.sampled_from([None, "x86", "arm64", "s390x"]),
        "arch_from": st.none() | texts,
        "setup": st.none() | st.builds(Setup, call=texts, msr=st.none() | u32, value=st.none() | u64, register=st.none() | texts, firmware_error=st.none() | u32, status=st.none() | u64, detail=st.none() | texts, fields=fields),  # noqa: E501
        "symptom": st.none() | st.builds(Symptom, kind=texts, fields=fields),
        "speaker": st.none() | st.builds(Speaker, name=texts, fields=fields),
        "data_apart": st.dictionaries(st.integers(0, 15), u64, max_size=2),
        "seen_at": st.dictionaries(texts, u32, max_size=2),
        "exit": st.none() | st.builds(Exit, reason=u64, info1=st.none() | u64, error_code=st.none() | u32, isa=st.sampled_from([None, "vmx", "svm"])),  # noqa: E501
        "control": st.none() | st.builds(ControlBlock, kind=st.sampled_from(["vmcs", "vmcb"]), fields=st.dictionaries(names, u64)),  # noqa: E501
        "emulation": st.none() | st.builds(Emulation, rip=u64, cs_base=u32, insn=st.binary(max_size=15), mode=st.sampled_from([None, "real16", "long64"])),  # noqa: E501
        "trace": st.lists(events, max_size=2).map(tuple),
        "repairs": st.lists(texts, max_size=2).map(tuple),
        "damage": st.lists(texts, max_size=2).map(tuple),
        "source": st.builds(Source, path=st.none() | texts, line=st.none() | u32, vcpu=st.none() | st.integers(0, 4096), count=st.integers(1, 9), time=st.none() | texts, writer=st.none() | texts),  # noqa: E501
    }
)  # fmt: skip


def again(failure: Failure) -> Failure:
    """Read back, but for how it had been answered."""
    (back,) = read(to_json(diagnose(failure))).failures
    assert back.stored is not None
    return msgspec.structs.replace(back, stored=None)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FIXTURES)))
def test_every_fixture_comes_back(path: Path) -> None:
    """The record is equal, and so is the object that is made of it."""
    for failure in read(path.read_bytes(), path="a.log").failures:
        assert again(failure) == failure
        assert to_json(diagnose(again(failure))) == to_json(diagnose(failure))


@settings(max_examples=60, deadline=None)
@given(reports(), parts)
def test_every_part_of_a_record_comes_back(report: Printed, more: dict[str, object]) -> None:
    """Whatever a reader can put into a record is in the object."""
    failure = msgspec.structs.replace(report.failure, **more)
    back = again(failure)
    if failure.arch is None and back.arch == "x86":  # its registers say so
        back = msgspec.structs.replace(back, arch=None, arch_from=failure.arch_from)
    assert back == failure


@pytest.mark.parametrize(
    ("seen", "written"),
    [
        (Failure, Explanation), (Host, HostPart), (Source, SourcePart), (Setup, SetupPart), (Event, EventPart),
        (HostEvent, HostEventPart), (Exit, ExitSeenPart), (Emulation, EmulationPart), (ControlBlock, ControlPart),
    ],
)  # fmt: skip
def test_no_part_of_a_record_is_forgotten(seen: type[msgspec.Struct], written: type[msgspec.Struct]) -> None:
    """A field that is added to the record is added to the contract, too."""
    elsewhere = {"exit": "exit_seen", "damage": "torn"} | ({} if seen is ControlBlock else {"fields": "numbers"})
    for name in seen.__struct_fields__:
        assert elsewhere.get(name, name) in written.__struct_fields__


def test_lists_journals_and_pretty_print() -> None:
    """jq's lists and indentation, a line of a journal, and other evidence beside it."""
    failures = next(found for path in FILES if (found := read(path.read_bytes()).failures))
    line = to_json(diagnose(failures[0]))
    item = json.loads(line)
    for text in (json.dumps(item, indent=2), json.dumps([item]), f"Jan 02 03:04:05 h kvmwhy[1]: {line.decode()}\n"):
        (back,) = read(text.encode()).failures
        assert msgspec.structs.replace(back, stored=None) == failures[0]
    mixed = line + b"\nKVM: entry failed, hardware error 0x7\n"
    first, second = read(mixed).failures
    assert msgspec.structs.replace(first, stored=None) == failures[0]
    assert (second.hardware_error, second.source.line) == (7, 2)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema":1',
        '{"schema":1}',
        '{"schema":3,"kind":"other"}',
        '{"schema":1,"kind":"no such kind"}',
        '{"schema":1,"kind":"other","data":["0x' + "f" * 17 + '"]}',
        '{"schema":1,"kind":"other","data":[1]}',
        '{"schema":1,"kind":"other","cpu":{"rip":true}}',
        '{"schema":1,"kind":"other","cpu":7}',
        '{"schema":1,"kind":"other","code":{"window":"zz","rip_at":0}}',
        '{"schema":1,"kind":"other","trace":[{}]}',
        '{"schema":1,"data":' + "[" * 100_000,
    ],
)
def test_a_wrong_object_is_named_and_left_out(text: str) -> None:
    """Torn, of another schema, or of wrong types: a sentence, and no record."""
    evidence = read(text.encode())
    assert evidence.failures == ()
    assert len(evidence.damage) == 1


def test_a_byte_that_is_no_utf_8_tears_its_object_only() -> None:
    """Found by fuzzing: JSON's decoder raises another error for it than for bad syntax."""
    evidence = read(b'\x01\n{"schema":1,"kind":"ot\xbaer"}\nKVM: entry failed, hardware error 0x7\n')
    assert [failure.hardware_error for failure in evidence.failures] == [7]
    assert any("torn" in remark for remark in evidence.damage)
    assert read(b'{"schema":1,"kind":"ot\xbaer"}').failures == ()


def test_how_a_record_was_answered_stays_with_it() -> None:
    """Schema 1 told only the sentence; an answer of today is told whole, and does not differ from itself."""
    (old,) = read(b'{"schema":1,"kind":"entry-failure","hardware_error":"0x7","answer":"Because."}').failures
    assert old.stored is not None
    assert (old.stored.schema, old.stored.version, old.stored.answer) == (1, None, "Because.")
    today = json.loads(to_json(diagnose(old)))
    assert today["stored"]["answer"] == "Because."
    assert today["stored"]["same"] is None
    (back,) = read(json.dumps(today).encode()).failures
    assert back.stored is not None
    assert (back.stored.schema, back.stored.answer) == (2, today["answer"])


def test_times_of_schema_1_are_seconds() -> None:
    """What an earlier kvmwhy wrote as a float comes back as it was."""
    event = '{"name":"kvm_exit","time":1.5,"numbers":{},"texts":{}}'
    (failure,) = read(f'{{"schema":1,"kind":"other","trace":[{event}]}}'.encode()).failures
    assert json.loads(to_json(diagnose(failure)))["trace"][0]["time"] == 1_500_000_000
