"""The rules against real kernels: lab/results/entry-states has what came of every state of lab/entry_states.py.

Bochs checks nearly all that the manual asks for, QEMU's TCG a few of AMD's; what is known to differ is named here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from kvmwhy.arch.x86.vm_entry import EMULATED, RULES, Checked, Vendor, check
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import kernel_log
from kvmwhy.record import Failure
from lab import entry_states
from lab.entry_run import Kept, load
from lab.entry_states import State
from lab.outcome import FAIL_ENTRY

FILES: Final = sorted((Path(entry_states.__file__).parent / "results" / "entry-states").glob("*.jsonl.gz"))
# Rules that break together with the one that a state was made to break: the manual asks for both.
COMPANIONS: Final = {
    "ss-dpl3-real": {"cs-dpl"},
    "tr-absent": {"segment-present"},
    "rflags-vm-long": {"vm86-base", "vm86-limit", "vm86-access"},
    "rflags-vm-compat": {"vm86-base", "vm86-limit", "vm86-access"},
}
# Bochs compares CS.DPL with CS.RPL, the manual with SS.DPL; it lets a non-canonical RIP in.
BOCHS_REFUSES: Final = {"bochs-cs-rpl3": set[str](), "bochs-nmi-sti": {"nmi-sti"}}
BOCHS_ENTERS: Final = {"bochs-ss-dpl3": {"cs-dpl"}, "bochs-rip-noncanonical": {"rip-canonical"}}
# TCG writes CR0 back with 32 bits when VMRUN fails: the dump has lost what was wrong.
TCG_LOSES: Final = {"svm-cr0-high"}
# What vmx_guest_state_valid does not look at: a TSS of 16 bits in long mode, S of TR and LDTR, DPL and CS.type of vm86.
LOOKS_AWAY: Final = {"tr-tss16", "tr-no-system", "ldtr-no-system", "vm86-cs-code", "vm86-ss-dpl0"}
# Without unrestricted guest KVM leaves the accessed bit as it was given.
UNMENDED: Final = "data-type"


class Measured(NamedTuple):
    vendor: Vendor
    unrestricted: bool | None
    kept: dict[str, Kept]


@cache
def measured(path: Path) -> Measured:
    head, kept = load(path)
    vendor: Vendor = "vmx" if head.vendor == "vmx" else "svm"
    setting = head.parameters.get("kvm_intel.unrestricted_guest")
    return Measured(vendor, None if setting is None else setting == "Y", kept)


def name_of(state: State) -> str:
    return state.case.id.rsplit("/", 1)[1].removesuffix(".")


def refused(kept: Kept) -> bool:
    return kept.outcome.last is not None and kept.outcome.last.reason == FAIL_ENTRY


def expected(state: State, result: Measured) -> str | None:
    return state.vmx if result.vendor == "vmx" else state.svm


def broken(result: Checked) -> set[str]:
    return {violation.rule.id for violation in result.violations}


def by_registers(state: State, result: Measured) -> Checked:
    cpu = entry_states.cpu_of(state.case)
    return check(cpu, vendor=result.vendor, unrestricted=result.unrestricted)


@cache
def dumped(log: str) -> Failure:
    (failure,) = kernel_log.read(Text(log)).failures
    return failure


def by_dump(kept: Kept, result: Measured) -> Checked:
    return _by_dump(kept.log, result.vendor)


@cache
def _by_dump(log: str, vendor: Vendor) -> Checked:
    failure = dumped(log)
    assert failure.cpu
    return check(failure.cpu, failure.control, vendor=vendor)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_refused_state_is_named(path: Path) -> None:
    """In the kernel's dump each refused state breaks the rule that it was made to break, and no other."""
    result = measured(path)
    for state in entry_states.states():
        kept = result.kept[state.case.id]
        if not refused(kept):
            continue
        name, rule = name_of(state), expected(state, result)
        found = by_dump(kept, result)
        if name in BOCHS_REFUSES:
            assert broken(found) == BOCHS_REFUSES[name], name
        elif rule is None:
            assert not result.unrestricted
            assert name.startswith("mended-")
            assert broken(found) == {UNMENDED}, name
        elif rule in TCG_LOSES:
            assert broken(found) <= {rule}
            assert broken(by_registers(state, result)) == {rule}, name
        else:
            assert broken(found) == {rule} | COMPANIONS.get(name, set()), name


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_whole_dump_decides_every_rule(path: Path) -> None:
    """Nothing is unknown where the kernel dumped what the CPU was given: each rule is broken or holds."""
    result = measured(path)
    for state in entry_states.states():
        kept = result.kept[state.case.id]
        if refused(kept):
            assert by_dump(kept, result).unknown == (), state.case.id


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_what_entered_breaks_nothing(path: Path) -> None:
    """No state that the CPU entered with, odd as it is, breaks a rule, as a VMM would print its registers."""
    result = measured(path)
    for state in entry_states.states():
        kept = result.kept[state.case.id]
        if refused(kept) or kept.outcome.stop == "refused":
            continue
        found = broken(by_registers(state, result))
        allowed = BOCHS_ENTERS.get(name_of(state), set()) if result.vendor == "vmx" else set()
        assert found <= allowed, state.case.id


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_registers_alone_never_name_a_wrong_rule(path: Path) -> None:
    """What the registers show broken, the dump shows too, whether or not the host's kind is known."""
    result = measured(path)
    for state in entry_states.states():
        kept = result.kept[state.case.id]
        if not refused(kept) or expected(state, result) in TCG_LOSES:
            continue
        cpu = entry_states.cpu_of(state.case)
        truth = broken(by_dump(kept, result))
        for unrestricted in (result.unrestricted, None):
            assert broken(check(cpu, vendor=result.vendor, unrestricted=unrestricted)) <= truth, state.case.id


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_log_says_what_userspace_was_told(path: Path) -> None:
    """The number in the dump is that of KVM_EXIT_FAIL_ENTRY; a VM-instruction error is not in it."""
    result = measured(path)
    for kept in result.kept.values():
        if not refused(kept) or kept.outcome.last is None:
            assert not kernel_log.read(Text(kept.log)).failures
            continue
        told = int.from_bytes(bytes.fromhex(kept.outcome.last.significant)[:8], "little")
        failure = dumped(kept.log)
        # A dump whose exit reason is one of an entry that worked does not say that this one failed.
        assert failure.kind == "entry-failure" or (told < 1 << 31 and failure.kind == "other")
        assert failure.hardware_error == (None if told < 1 << 31 else told)


def test_what_kvm_emulates_is_known() -> None:
    """Without unrestricted guest: a broken state that got through is one that KVM is held to get around.

    The other way round KVM's own check looks away in five places, and the CPU refuses: there kvmwhy says "unknown".
    """
    (path,) = [path for path in FILES if "unrestricted_guest=0" in path.name]
    result = measured(path)
    surprised = set()
    for state in entry_states.states():
        kept = result.kept[state.case.id]
        if kept.outcome.stop == "refused":
            continue
        unknown = by_registers(state, result).unknown
        emulated = {doubt.rule.id for doubt in unknown if doubt.missing == EMULATED and doubt.value}
        if not refused(kept):
            assert state.vmx is None or state.vmx in emulated, state.case.id
        elif broken(by_dump(kept, result)) & emulated:
            surprised.add(name_of(state))
    assert surprised == LOOKS_AWAY


def test_the_lab_is_big_enough() -> None:
    """At least 40 states refused, and 40 odd ones entered, on each vendor's KVM that can tell."""
    for path in FILES:
        result = measured(path)
        stops = [refused(kept) for kept in result.kept.values() if kept.outcome.stop != "refused"]
        assert len(stops) - sum(stops) >= 40
        assert sum(stops) >= (40 if result.vendor == "vmx" else 6), path.name
    assert {measured(path).vendor for path in FILES} == {"vmx", "svm"}


def test_the_results_are_of_these_states() -> None:
    """Every file has an outcome of every state, and each expected rule exists."""
    for path in FILES:
        assert set(measured(path).kept) == {state.case.id for state in entry_states.states()}
    known = {rule.id for rules in RULES.values() for rule in rules}
    assert {rule for state in entry_states.states() for rule in (state.vmx, state.svm) if rule} <= known
