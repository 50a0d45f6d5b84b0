"""Statements of an answer, held against what the guest did: the guests of lab/truths.py fail in one known way each."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path

import pytest

from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.pipeline import records
from kvmwhy.render.page import to_plain
from kvmwhy.render.text import explanation

FIXTURES = Path(__file__).parent.parent / "fixtures"
FILES = sorted(path for path in FIXTURES.glob("truths-lab/*/*/*") if path.name in {"vmm.log", "trace.txt", "dmesg.txt"})
_RACES = frozenset({"slot-race-1", "slot-race-3"})
# Whose doing each is; of what a guest does without a system either of two may be said. See tests/guests/wild.py.
_OWN = frozenset({"guest-code", "guest-firmware"})
_TRUE: dict[str, frozenset[str]] = {
    **dict.fromkeys(_RACES, frozenset({"vmm-race"})),
    **dict.fromkeys(("ram-truncated", "hugetlb-exhausted", "memory-limit"), frozenset({"host-setup"})),
    "smi-in-sti-shadow": frozenset({"host-kernel"}),
}
_FIRST = {
    "triple-ud": "#UD", "triple-pf": "#PF", "triple-gp": "#GP", "triple-de": "#DE", "triple-int3": "#BP",
    "triple-cr3": "#PF", "triple-gate": "#UD", "triple-selector": "#UD", "triple-stack": "#UD",
    "triple-reserved": "#PF", "cr3-beyond": "#PF",
}  # fmt: skip


@cache
def _diagnoses(path: Path) -> tuple[Diagnosis, ...]:
    return tuple(diagnose(record.failure) for record in records([path.read_bytes()], path.name))


@cache
def _texts(path: Path) -> tuple[str, ...]:
    return tuple(to_plain(explanation(diagnosis), 10_000) for diagnosis in _diagnoses(path))


def _name(path: Path) -> str:
    return str(path.relative_to(FIXTURES / "truths-lab"))


every_file = pytest.mark.parametrize("path", FILES, ids=_name)


@every_file
def test_nobody_but_who_did_it_is_blamed_with_more_than_even_odds(path: Path) -> None:
    """An answer may be open; what it calls most likely is the truth."""
    true = _TRUE.get(path.parent.name, _OWN)
    blamed = {d.origins[0].id for d in _diagnoses(path) if d.origins and d.origins[0].share > 0.5}
    assert blamed <= true


@every_file
def test_memory_that_went_away_is_said_of_races_alone(path: Path) -> None:
    """Only QEMU's rearranging of slots takes memory from under a vCPU; nobody else had run in that page."""
    if path.parent.name in _RACES:
        return
    for text in _texts(path):
        assert "running in that very page" not in text
        assert "the slot had been taken away" not in text


@every_file
def test_a_device_of_the_pc_is_not_said_to_be_used_as_ram(path: Path) -> None:
    """One instruction on the memory of a VGA says nothing of a kernel's data."""
    for text in _texts(path):
        assert "what a kernel does to its data" not in text
        assert "ran off the end" not in text


@every_file
def test_an_address_inside_a_structure_is_not_its_beginning(path: Path) -> None:
    """IDT, GDT and TSS of these guests begin at 0x40000000; what the CPU touched lies in them."""
    for text in _texts(path):
        assert not re.search(r": the (?:GDT|TSS|IDT) lies at", text)
        assert "the IDT or the stack is no RAM" not in text


@every_file
def test_a_shutdown_names_the_exception_that_the_guest_raised_and_no_other(path: Path) -> None:
    """Each met one exception; that KVM intercepts it and hands it back does not make two."""
    first = _FIRST.get(path.parent.name)
    if first is None or ("vmx" in path.parent.parent.name and first != "#UD"):  # VMX tells nothing of the others
        return
    for text in _texts(path):
        assert f"First {first} " in text
        assert "Then " not in text
        if path.parent.name in {"triple-cr3", "cr3-beyond"}:  # it is the next instruction's fetch
            assert "a read by" not in text


@pytest.mark.parametrize("kernel", ["svm-6.1", "svm-7.3"])
@pytest.mark.parametrize("file", ["vmm.log", "trace.txt"])
def test_an_instruction_across_the_end_of_ram_is_missed_where_ram_ends(kernel: str, file: str) -> None:
    """Its first byte is the last of 16 MiB: what could not be fetched begins at 0x1000000."""
    (diagnosis,) = _diagnoses(FIXTURES / "truths-lab" / kernel / "off-the-end" / file)
    assert diagnosis.mechanism is not None
    assert "goes on at 0x1000000" in diagnosis.mechanism.text
    assert diagnosis.facts.access is not None
    assert diagnosis.facts.access.gpa == 0x1000000


def test_a_vmm_that_a_cgroup_s_limit_killed_is_no_trouble_of_kvm_s() -> None:
    """The call trace is the out-of-memory killer's own, through KVM because a vCPU asked for the page."""
    path = FIXTURES / "truths-lab" / "svm-6.1" / "memory-limit" / "dmesg.txt"
    (diagnosis,) = _diagnoses(path)
    (text,) = _texts(path)
    assert "the memory limit of a cgroup was reached, and the kernel killed qemu-system-x86" in text
    assert "call trace" not in text
    assert "the host ran out of memory" not in text
    assert diagnosis.advice
    assert "cgroup" in diagnosis.advice[0].text


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("kernel-log/*-off.dmesg")), ids=lambda path: path.name)
def test_a_dump_that_is_switched_off_tells_that_something_failed(path: Path) -> None:
    """dump_vmcs and dump_vmcb are called for nothing else."""
    for diagnosis in _diagnoses(path):
        assert diagnosis.mechanism is not None
        assert "failed" in diagnosis.mechanism.text
        assert diagnosis.origins[0].id != "none"
        assert all(origin.id != "none" or origin.share < 0.1 for origin in diagnosis.origins)


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("kernel-log/*[0-9d].dmesg")), ids=lambda path: path.name)
def test_a_dumped_state_was_refused(path: Path) -> None:
    """Each dump here is of a state that the CPU did not enter (provenance.json), and of stock module parameters."""
    for diagnosis in _diagnoses(path):
        assert diagnosis.mechanism is not None
        assert diagnosis.mechanism.id in {"entry-refused-guest-state", "entry-refused-controls"}
    for text in _texts(path):
        assert "emulate_invalid_guest_state=0" not in text
        assert "had been running" not in text


def test_what_a_program_was_given_ud_for_is_its_own_doing() -> None:
    """The lab's programs at CPL 3 use x87 and SIMD where no RAM is; KVM's emulator gives them #UD, and tells nobody."""
    silent = [
        diagnosis
        for path in sorted(FIXTURES.glob("trace/*/plain.txt.gz"))
        for diagnosis in (
            diagnose(record.failure) for record in records([gzip.decompress(path.read_bytes())], path.name)
        )
        if diagnosis.failure.silent and diagnosis.mechanism and diagnosis.mechanism.id == "undef-injected"
    ]
    assert silent
    for diagnosis in silent:
        assert diagnosis.origins[0].id == "guest-code"
        assert not any("harmless" in advice.text for advice in diagnosis.advice)


def test_riscv_s_eio_of_a_misaligned_access_is_not_a_vm_given_up() -> None:
    """vcpu_insn.c returns -EIO there; and one thread that runs guest after guest is not several vCPUs."""
    trace = (FIXTURES / "arm64/7.3.4+deb13-cloud-arm64/trace.txt").read_text()
    head = "".join(line for line in trace.splitlines(keepends=True) if line.startswith("#"))
    rest = "HTVAL:0x3400000, HTINST:0x0"
    run = """           probe-134     [000] d....     5.{0}494: kvm_entry: PC: 0x01680001000
           probe-134     [000] .....     5.{0}629: kvm_exit: SEPC:0x80001000, SCAUSE:0x15, STVAL:0xd000001, {1}
           probe-134     [000] .....     5.{0}824: kvm_userspace_exit: reason error (5)
"""
    text = head + run.format(598, rest) + run.format(612, rest)
    found = [diagnose(record.failure) for record in records([text.encode()], "trace.txt")]
    assert found
    for diagnosis in found:
        page = to_plain(explanation(diagnosis), 10_000)
        assert "given the whole VM up" not in page
        assert "declared this VM dead" not in page
        assert "other vCPU" not in page
        assert all(origin.share < 0.5 for origin in diagnosis.origins)


@every_file
def test_a_piece_of_the_evidence_blames_nobody_else(path: Path) -> None:
    """The last events alone, or all but the first line: what is cut away must not turn the answer round."""
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    true = _TRUE.get(path.parent.name, _OWN)
    for piece in (lines[-5:], lines[1:]):
        for record in records(["".join(piece).encode()], path.name):
            diagnosis = diagnose(record.failure)
            assert diagnosis.mechanism is not None
            assert not diagnosis.origins or diagnosis.origins[0].id in true or diagnosis.origins[0].share <= 0.5
            if path.parent.name.startswith("triple-"):
                assert "which KVM had put into it" not in diagnosis.mechanism.text
            if path.parent.name == "memory-limit":
                assert "call trace" not in diagnosis.mechanism.text
