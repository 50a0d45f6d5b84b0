"""Signatures: what is one group and what is not, in each version; tables with the one, the other, or both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fleet.logs import BLOCK, FIXTURES, fixtures
from kvmwhy import fleet
from kvmwhy.cli.main import kvmwhy
from kvmwhy.diagnosis import diagnose
from kvmwhy.fleet.duckdb_load import roll_up
from kvmwhy.fleet.row import Row, from_json
from kvmwhy.fleet.signature import NEWEST, VERSIONS, sign
from kvmwhy.fleet.store import StoreError, read_rows, write_rows
from kvmwhy.fleet.triage import triage
from kvmwhy.readers import read
from kvmwhy.record import Cpu, Failure
from kvmwhy.render.fleet_text import overview
from kvmwhy.render.page import to_plain

OLD = Path(__file__).parent / "schema-2"
NPF = 0x400


def emulation(code: bytes, *, gpa: int = 0xFEB0_1000, reason: int = NPF) -> Failure:
    """KVM could not emulate ``code``, in 64-bit mode, with the words of Linux 5.16 on."""
    insn = code.ljust(15, b"\x90")
    first = int.from_bytes(bytes([15]) + insn[:7], "little")
    second = int.from_bytes(insn[7:], "little")
    info1 = 0x1_0000_0004 if reason == NPF else 0x181  # a read of what nothing maps
    info2 = gpa if reason == NPF else 0
    data = (1, first, second, reason, info1, info2, 0, 0)
    registers = {"cr0": 0x8005_0033, "cr4": 0x20, "efer": 0xD01, "rflags": 2, "rip": 0xFFFF_8000_0000_1000}
    cpu = Cpu(registers={**registers, "rbx": gpa, "rcx": gpa, "rdx": gpa, "rdi": gpa}, wide=True, cpl=0)
    return Failure(kind="internal-error", suberror=1, ndata=len(data), data=data, cpu=cpu)


def parts(failure: Failure, version: int = NEWEST) -> dict[str, str]:
    return dict(sign(diagnose(failure), version).parts)


def of(name: str) -> Failure:
    (failure, *_) = read((FIXTURES / name).read_bytes()).failures
    return failure


def test_version_2_never_changes() -> None:
    """What version 2 made of the same when it came into being, for programs and for people."""
    (failure,) = read(BLOCK).failures
    made = sign(diagnose(failure), 2)
    assert made.key == (
        "v2 cause=emulator-no-handler failure=internal-error_suberror_1 mode=long64 instruction=vmovdqu_ymm,m256"
        " access=read place=low-split"
    )
    assert made.why == (
        "cause emulator-no-handler, failure internal-error suberror 1, mode long64, instruction vmovdqu ymm,m256,"
        " access read, place low-split"
    )


def test_version_3_never_changes() -> None:
    """It begins with the mechanism, and says of a refused set-up what was refused."""
    (failure,) = read(BLOCK).failures
    assert sign(diagnose(failure), 3).key == (
        "v3 mechanism=emulation-no-handler failure=internal-error_suberror_1 mode=long64 instruction=vmovdqu_ymm,m256"
        " access=read place=low-split"
    )
    (refused,) = read((FIXTURES / "truths" / "vcpu-twice" / "vmm.log").read_bytes()).failures
    assert (
        sign(diagnose(refused), 3).key == "v3 mechanism=setup-refused failure=setup-refused_EEXIST call=KVM_CREATE_VCPU"
    )


def test_a_version_that_never_was_is_an_error() -> None:
    """Neither 1, which was dropped before any release, nor one that is yet to come."""
    (failure,) = read(BLOCK).failures
    assert sorted(VERSIONS) == [2, 3]
    for version in (1, 4):
        with pytest.raises(KeyError):
            sign(diagnose(failure), version)


@pytest.mark.parametrize("version", [2, 3])
def test_addresses_are_in_no_version(version: int) -> None:
    """Another RIP, another register that is not used: the same. A store where there was a load: another."""
    moved = BLOCK.replace(b"RIP=0000000000008086", b"RIP=00000000deadbeef").replace(
        b"RCX=0000000000000000", b"RCX=0000000000000077"
    )
    other = BLOCK.replace(b"6601b0036ffec50f", b"6601b0037ffec50f").replace(b"<c5> fe 6f 03", b"<c5> fe 7f 03")
    one, two, three = (sign(diagnose(read(data).failures[0]), version) for data in (BLOCK, moved, other))
    assert one == two
    assert one.key != three.key


registers = st.sampled_from([1, 2, 3, 7])  # RCX, RDX, RBX, RDI: those that are given the address


@given(st.integers(0, 7), registers, st.booleans())
def test_what_a_compiler_chooses_is_in_no_version(vector: int, base: int, extended: bool) -> None:
    """`movups xmm0,[rcx]` and `movups xmm11,[rdx]` are one gap: no version knows a register."""
    code = bytes((0x44 if extended else 0x40, 0x0F, 0x14, vector << 3 | base))  # UNPCKLPS: KVM has no handler
    assert parts(emulation(code))["instruction"] == "unpcklps xmm,m128"
    assert sign(diagnose(emulation(code))) == sign(diagnose(emulation(bytes((0x0F, 0x14, 0x03)))))


def test_vendors_have_other_names_for_a_touch_of_memory() -> None:
    """The same instruction on MMIO, on AMD and on Intel is one group."""
    amd, intel = emulation(b"\x0f\x14\x03"), emulation(b"\x0f\x14\x03", reason=49)  # EPT_MISCONFIG
    assert "exit" not in parts(amd)
    assert {name: value for name, value in parts(amd).items() if name != "place"} == {
        name: value for name, value in parts(intel).items() if name != "place"
    }


@given(st.binary(min_size=4, max_size=4))
def test_garbage_at_a_wild_jump_splits_no_group(garbage: bytes) -> None:
    """Code that was never code: where the guest jumped to what is no RAM, its bytes are in no part."""
    log = (FIXTURES / "real16-jump" / "qemu.log").read_bytes()
    before, mark, after = log.partition(b"Code=")
    shown = after.split()
    at = next(n for n, byte in enumerate(shown) if byte.startswith(b"<"))
    shown[at : at + 4] = [b"<%02x>" % garbage[0], *(b"%02x" % byte for byte in garbage[1:])]
    changed = before + mark + b" ".join(shown) + b"\n"
    one, two = (sign(diagnose(read(data).failures[0])) for data in (log, changed))
    assert dict(one.parts)["mechanism"] == "fetch-not-ram"
    assert one == two
    assert "instruction" not in dict(one.parts)


@pytest.mark.parametrize(
    ("log", "event"),
    [("qemu-7.3/long64-cpl3-idt-int3", "#BP"), ("qemu-6.1/long64-idt-int3", "#BP"), ("qemu-6.1/prot32-idt-ud2", "#UD")],
)
def test_a_delivery_is_by_event_and_structure(log: str, event: str) -> None:
    """The IDT is not where there is RAM: which event, which structure, and not which instruction stood at RIP; told by
    suberror 3 of one kernel and by suberror 1 of another.
    """
    told = parts(of(f"lab-svm/{log}/qemu.log"))
    assert (told["event"], told["structure"], told["access"]) == (event, "IDT", "event-delivery")
    assert "instruction" not in told


def test_a_refused_entry_names_its_rule() -> None:
    """Several states that break several rules: the first broken rule tells them apart."""
    failures = [
        failure
        for name in ("vmx-5.10", "vmx-6.1-restricted", "vmx-7.3")
        for failure in read((FIXTURES / "kernel-log" / f"{name}.dmesg").read_bytes()).failures
    ]
    refused = [parts(failure) for failure in failures]
    rules = {p.get("rule") for p in refused if p["mechanism"] == "entry-refused-guest-state"}
    assert rules >= {"cs-l-d", "rflags-if", "base-canonical", "segment-granularity"}
    assert None not in rules


@pytest.mark.parametrize(
    ("failure", "wanted"),
    [
        (Failure(kind="other", exit_reason=2), "other KVM exit 2"),
        (Failure(kind="other", errno="EBUSY"), "other EBUSY"),
        (Failure(kind="run-error", errno="EFAULT", exit_reason=0), "run-error EFAULT"),
        (Failure(kind="shutdown", exit_reason=8), "shutdown"),
        (Failure(kind="exception-exit", exception=17), "exception-exit #AC"),
        (Failure(kind="internal-error"), "internal-error suberror ?"),
        (Failure(kind="entry-failure", hardware_error=0x80000021), "entry-failure hardware error 0x80000021"),
        (Failure(kind="unknown-exit", hardware_reason=0x43), "unknown-exit reason 0x43"),
    ],
)
def test_a_failure_is_named_with_its_number(failure: Failure, wanted: str) -> None:
    """What KVM reported, and `?` where it is cut off."""
    assert parts(failure)["failure"] == wanted


def test_what_a_log_lost_is_said() -> None:
    """Without registers the mode, the access and its place are not known, and the reason for the group says so."""
    (failure,) = read((FIXTURES / "prot32-flds" / "kvm_run.page").read_bytes()).failures
    made = sign(diagnose(failure))
    assert dict(made.parts) | {"mode": "?", "access": "?", "place": "?"} == dict(made.parts)
    assert "mode not known" in made.why
    assert "?" not in made.why


def test_every_fixture_has_a_signature_of_either_version() -> None:
    """One line, its version first, no two parts of one name; nothing in it that a terminal acts on."""
    for _, failures in fixtures():
        for failure in failures:
            for version in VERSIONS:
                made = sign(diagnose(failure), version)
                assert made.key.startswith(f"v{version} {'cause' if version == 2 else 'mechanism'}=")
                assert made.key.isprintable()
                assert len(dict(made.parts)) == len(made.parts)


# -- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_table_of_schema_2_is_still_read(suffix: str) -> None:
    """Its newest signature is of version 2, whichever way it is asked for; nothing else is lost."""
    rows = list(read_rows(str(OLD / f"rows{suffix}")))
    assert (len(rows), sum(row.count for row in rows)) == (7, 9)
    assert {row.host for row in rows} == {"node1", "node2"}
    for row in rows:
        assert row.signature == row.signature_v2
        assert row.signature.startswith("v2 ")
        assert row.why == row.why_v2
    session = fleet.view([str(OLD / f"rows{suffix}")])
    assert session.sql(
        "SELECT count(*), count(DISTINCT signature_v2) FROM rows WHERE signature = signature_v2"
    ).fetchall() == [(7, 5)]


def now(tmp_path: Path) -> str:
    """What a scan of two of the same logs writes today."""
    rows = fleet.records([str(FIXTURES / name / "qemu.log") for name in ("long64-vmovdqu", "prot32-flds")])
    with (tmp_path / "now.parquet").open("wb") as sink:
        write_rows(sink, [replace(row, host="node3") for row in rows], ".parquet")
    return str(tmp_path / "now.parquet")


Roll = Callable[[list[str], int], dict[str, object]]
HERE: Roll = lambda _files, _version: {}  # noqa: E731 -- the two ways side by side
WORKERS: Roll = lambda files, version: {  # noqa: E731
    "tables": [roll_up(file, (), None, version=version) for file in files]
}


@pytest.mark.parametrize("roll", [HERE, WORKERS], ids=["here", "rolled up by workers"])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_old_and_new_tables_are_one_triage(tmp_path: Path, suffix: str, roll: Roll) -> None:
    """By version 2 the same failure of both is one group; by version 3 the old rows stand apart and are counted."""
    files = [str(OLD / f"rows{suffix}"), now(tmp_path)]
    by_2 = triage(files, version=2, **roll(files, 2))  # type: ignore[arg-type]
    assert {g.signature.split()[0] for g in by_2.groups} == {"v2"}
    vmovdqu = next(g for g in by_2.groups if "vmovdqu" in g.signature)
    assert (vmovdqu.count, vmovdqu.hosts) == (4, 3)
    assert "ymm,m256" in vmovdqu.why
    assert (by_2.signature_version, by_2.unsigned, len(by_2.groups)) == (2, 0, 5)
    by_3 = triage(files, **roll(files, 3))  # type: ignore[arg-type]
    assert (by_3.signature_version, by_3.unsigned, by_3.count) == (3, 9, 11)
    assert sorted(g.signature.split()[0] for g in by_3.groups) == ["v2"] * 5 + ["v3"] * 2
    for group in by_3.groups:
        assert ("mechanism" in group.why) == group.signature.startswith("v3 ")
    text = to_plain(overview(by_3), 200)
    assert "9 of these failures have no signature v3" in text
    assert "--signature v2" in text
    assert "no signature" not in to_plain(overview(by_2), 200)


@pytest.mark.parametrize("asked", ["v4", "1", "v0", "newest", "v²", "v-1", "v" + "9" * 99])
def test_a_version_that_never_was_is_one_sentence(asked: str) -> None:
    """Exit status 2, and what there is."""
    result = CliRunner().invoke(kvmwhy, ["triage", str(OLD / "rows.jsonl"), "--signature", asked])
    assert result.exit_code == 2
    assert result.output == f"kvmwhy: there is no signature {asked}; there are v2 and v3\n"


def test_json_names_the_version() -> None:
    """As a number, beside how many failures have none of it."""
    for asked, unsigned in (("v2", 0), ("3", 9)):
        result = CliRunner().invoke(kvmwhy, ["triage", str(OLD / "rows.jsonl"), "--signature", asked, "--json"])
        told = json.loads(result.stdout)
        assert (told["signature_version"], told["unsigned"]) == (int(asked[-1]), unsigned)


def test_a_table_of_a_newer_kvmwhy_is_refused(tmp_path: Path) -> None:
    """By its own word, not by a guess from its columns; the sentence says what to do."""
    import pyarrow.parquet as pq

    table = pq.read_table(OLD / "rows.parquet")
    pq.write_table(table.replace_schema_metadata({"kvmwhy.row": "4"}), tmp_path / "new.parquet")
    (tmp_path / "new.jsonl").write_text('{"row": 4, "path": "x", "offset": 0}\n')
    for name in ("new.parquet", "new.jsonl"):
        with pytest.raises(StoreError, match=f"{name}.*newer kvmwhy than this one: update this one"):
            triage([str(tmp_path / name)])


def test_lines_of_both_schemas_may_be_in_one_file(tmp_path: Path) -> None:
    """Two files put together with cat."""
    new = [Row(path="x", offset=1, signature="v3 a", why="a", signature_v2="v2 a", why_v2="A")]
    with (tmp_path / "both.jsonl").open("wb") as sink:
        sink.write(b'{"row":2,"path":"x","offset":0,"signature":"v2 a","why":"A"}\n')
        write_rows(sink, new, ".jsonl")
    assert [row.signature for row in read_rows(str(tmp_path / "both.jsonl"))] == ["v2 a", "v3 a"]
    (group,) = triage([str(tmp_path / "both.jsonl")], version=2).groups
    assert (group.signature, group.why, group.count) == ("v2 a", "A", 2)
    assert from_json(b'{"row":2,"path":"x","offset":0}').signature_v2 is None
