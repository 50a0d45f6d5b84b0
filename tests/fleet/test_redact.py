"""A report that can be posted: the same answer, and nothing in it that was not needed for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fleet.logs import BLOCK, ROOT, fixtures
from kvmwhy.cli.redact import report
from kvmwhy.diagnosis import diagnose
from kvmwhy.fleet.redact import redact
from kvmwhy.readers import read
from kvmwhy.record import Event, Failure, Host, HostEvent, Source
from kvmwhy.render.json import to_record
from kvmwhy.render.page import to_plain

SECRET = "zq7secret"  # noqa: S105 -- it is looked for
(FAILURE,) = read(BLOCK).failures


def said(failure: Failure) -> str:
    made = redact(failure)
    return to_plain(report(made), 120) + to_record(made.failure).decode()


@pytest.mark.parametrize("n", range(len(fixtures())))
def test_the_answer_stays(n: int) -> None:
    """Every fixture has the same answer and the same causes before and after, and so has what is read back."""
    for failure in fixtures()[n][1]:
        made = redact(failure)
        before, after = diagnose(failure), diagnose(made.failure)
        assert [(f.cause.id, f.confidence) for f in after.findings] == [
            (f.cause.id, f.confidence) for f in before.findings
        ]
        assert after.answer == before.answer
        (again,) = read(to_record(made.failure) + b"\n").failures
        assert diagnose(again).answer == before.answer


EVENT = HostEvent(
    kind="kernel-bug",
    time=12.5,
    fields={
        "path": f"/home/{SECRET}/linux/arch/x86/kvm/mmu/mmu.c",
        "line": 3722,
        "function": "kvm_mmu_load",
        "comm": SECRET,
        "pid": 4711,
        "hardware": SECRET,
        "address": 0xFFFF888012345678,
    },
)


def test_no_text_of_the_log_is_left() -> None:
    """Names, paths, times, remarks and traces may hold anything; none of it comes through."""
    failure = replace(
        FAILURE,
        source=Source(path=f"/home/{SECRET}", writer=f"{SECRET}[1] on {SECRET}", time=SECRET, vmm="qemu", count=3),
        host=Host(kernel=f"6.1.0-{SECRET}", qemu=f"8.2.0-{SECRET}", dmi=SECRET, events=(EVENT,)),
        damage=(SECRET,),
        repairs=(SECRET,),
        trace=(Event(name=SECRET, fields={SECRET: SECRET}),),
    )
    made = redact(failure)
    text = said(failure)
    assert SECRET not in text
    assert "ffff888012345678" not in text
    assert (made.failure.host.kernel, made.failure.host.qemu) == ("6.1.0", "8.2.0")
    (event,) = made.failure.host.events
    assert event.fields == {"path": "arch/x86/kvm/mmu/mmu.c", "line": 3722, "function": "kvm_mmu_load"}
    assert {
        "file names",
        "times",
        "host and process names",
        "a trace of 1 events",
        "remarks that quote the log",
    } <= set(made.removed)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["rax", "rcx", "rdx", "rsi", "r8", "r15", "cr3", "dr0"]), st.integers(1 << 40, (1 << 64) - 1)
    )
)
def test_registers_that_the_address_does_not_use_are_gone(values: dict[str, int]) -> None:
    """What the guest computed with is nobody's business; RBX, of which the address is made, stays."""
    assert FAILURE.cpu is not None
    made = replace(FAILURE, cpu=replace(FAILURE.cpu, registers=FAILURE.cpu.registers | values))
    text = said(made)
    assert not [value for value in values.values() if f"{value:x}" in text]
    assert "0xd0000000" in text


def test_guest_memory_is_cut_to_the_instruction() -> None:
    """Neither the window of code nor KVM's fetched bytes show what stands behind it."""
    text = said(FAILURE)
    assert re.search(r"c5[ ]fe[ ]6f[ ]03", text)
    for beyond in ("b0 01 66 ba", "6601b0", "0f 22 e0", "00fdebf4"):
        assert beyond not in text


def test_what_has_to_stay_is_named() -> None:
    """Where the answer hangs on the registers, they stay, and the report says so."""
    kept = 0
    for _, failures in fixtures():
        for failure in failures:
            made = redact(failure)
            kept += any("registers: without them" in text for text in made.kept)
            assert made.removed or not failure.code
    assert kept < len(fixtures()) // 4


def test_a_vmcs_has_no_pointers() -> None:
    """Of a control block stay the controls, not the host's addresses."""
    data = (ROOT / "tests" / "fixtures" / "kernel-log" / "vmx-7.3.dmesg").read_bytes()
    for failure in read(data).failures:
        before, after = failure.control, redact(failure).failure.control
        if before and after:
            gone = {name for name in before.fields if before.fields[name]} - set(after.fields)
            assert {"host_rip", "host_rsp", "host_cr3", "ept_pointer"} & set(before.fields) <= gone
            assert after.fields["vm_entry_controls"] == before.fields["vm_entry_controls"]


def test_every_corpus_report_keeps_its_answer() -> None:
    """Public reports, where they are at hand."""
    corpus = sorted((ROOT.parent / "shared" / "corpus").glob("*/evidence.txt"))
    if not corpus:
        pytest.skip("no corpus beside the repository")
    for path in corpus:
        for failure in read(Path(path).read_bytes()).failures[:5]:
            made = redact(failure)
            assert diagnose(made.failure).answer == diagnose(failure).answer, path
