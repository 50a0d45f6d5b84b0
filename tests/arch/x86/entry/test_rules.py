"""Each rule on a state that keeps all of them but one, and what the rules say of states that are shown in part."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.arch.x86.vm_entry import DEPENDS, EMULATED, RULES, Checked, Vendor, check
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import kernel_log
from kvmwhy.record import ControlBlock, Cpu, Segment

FIXTURES = Path(__file__).parents[3] / "fixtures" / "kernel-log"
BIT63 = 1 << 63


@cache
def good(vendor: Vendor) -> dict[str, int]:
    """The fields of a genuine dump, with the one value put right that the CPU had refused."""
    name = {"vmx": "vmx-7.3.dmesg", "svm": "svm-7.3.dmesg"}[vendor]
    first, *_ = kernel_log.read(Text((FIXTURES / name).read_text())).failures
    assert first.control
    assert first.cpu
    fields = dict(first.control.fields)
    if vendor == "vmx":
        assert fields["guest_tr_base"] == BIT63
        return fields | {"guest_tr_base": 0x2000}
    assert first.cpu.segments["cs"].attributes == 0xE09B00
    return fields


def held(vendor: Vendor, **changes: int | None) -> Checked:
    """The good state with some fields changed, or, where ``None``, not shown."""
    fields = {**good(vendor), **changes}
    block = ControlBlock("vmcs" if vendor == "vmx" else "vmcb", {k: v for k, v in fields.items() if v is not None})
    segments = {"cs": Segment(0x18, 0, 0xFFFFFFFF, 0xA09B00)} if vendor == "svm" else {}
    return check(Cpu(segments=segments), block, vendor=vendor)


def broken(result: Checked) -> set[str]:
    return {violation.rule.id for violation in result.violations}


G = good("vmx")
IRQ, NMI, GP = 0x80000020, 0x80000202, 0x80000B0D
PAE = {
    "vm_entry_controls": G["vm_entry_controls"] & ~(1 << 9),
    "guest_efer": 0,
    "guest_cs_ar_bytes": 0xC09B,
    "guest_cr4": G["guest_cr4"] & ~(1 << 17),
}
NO_UG = {"secondary_controls": G["secondary_controls"] & ~(1 << 7)}
VM86 = {**PAE, "guest_rflags": 0x20002} | {
    f"guest_{name}_{part}": value
    for name in ("cs", "ss", "ds", "es", "fs", "gs")
    for part, value in (("selector", 0x100), ("base", 0x1000), ("limit", 0xFFFF), ("ar_bytes", 0xF3))
}
LDT = {"guest_ldt_selector": 0x30, "guest_ldt_base": 0, "guest_ldt_limit": 0xFF, "guest_ldt_ar_bytes": 0x82}
VID = {"secondary_controls": G["secondary_controls"] | 1 << 9, "cpu_based_controls": G["cpu_based_controls"] | 1 << 21}
CET = {"guest_s_cet": 0, "guest_ssp": 0, "guest_ssp_table": 0, "vm_entry_controls": G["vm_entry_controls"] | 1 << 20}
ENTRY = G["vm_entry_controls"]

# What breaks each rule, and it alone: the fields to change.
VMX: dict[str, dict[str, int]] = {
    "cr0-fixed": {"guest_cr0": G["guest_cr0"] & ~(1 << 5)},
    "cr0-high": {"guest_cr0": G["guest_cr0"] | 1 << 40},
    "cr0-pg-pe": {**PAE, "guest_cr0": G["guest_cr0"] & ~1},
    "cr4-fixed": {"guest_cr4": G["guest_cr4"] & ~(1 << 13)},
    "cr4-reserved": {"guest_cr4": G["guest_cr4"] | 1 << 19},
    "cr4-cet-wp": {"guest_cr4": G["guest_cr4"] | 1 << 23, "guest_cr0": G["guest_cr0"] & ~(1 << 16)},
    "long-paging": {"guest_cr4": G["guest_cr4"] & ~(1 << 5)},
    "cr4-pcide": {**PAE, "guest_cr4": G["guest_cr4"] | 1 << 17},
    "cr3-high": {"guest_cr3": BIT63},
    "debugctl-reserved": {"guest_debugctl": 1 << 4},
    "dr7-high": {"guest_dr7": 1 << 32 | 0x400},
    "sysenter-canonical": {"guest_sysenter_eip": BIT63},
    "pat-type": {"guest_pat": 0x0007040600070402},
    "efer-reserved": {"guest_efer": G["guest_efer"] | 1 << 20},
    "efer-lma": {**PAE, "guest_efer": 0x500},
    "efer-lme": {"guest_efer": 0x400},
    "bndcfgs": {"guest_bndcfgs": 4, "vm_entry_controls": ENTRY | 1 << 16},
    "cet": {**CET, "guest_ssp": 2},
    "gdtr-canonical": {"guest_gdt_base": BIT63},
    "idtr-canonical": {"guest_idt_base": 1 << 62},
    "table-limit": {"guest_idt_limit": 0x10000},
    "rip-high": {**PAE, "guest_rip": 1 << 32},
    "rip-canonical": {"guest_rip": BIT63},
    "rflags-reserved": {"guest_rflags": 0},
    "rflags-vm": {**VM86, "guest_cr0": G["guest_cr0"] & ~0x80000001},
    "rflags-if": {"vm_entry_interruption_info": IRQ},
    "tr-ti": {"guest_tr_selector": 0x2C},
    "ldtr-ti": {**LDT, "guest_ldt_selector": 0x34},
    "ss-rpl": {**NO_UG, "guest_cs_selector": 0x1B},
    "vm86-base": {**VM86, "guest_ds_base": 0x1001},
    "vm86-limit": {**VM86, "guest_es_limit": 0xFFFE},
    "vm86-access": {**VM86, "guest_gs_ar_bytes": 0x93},
    "base-canonical": {"guest_fs_base": BIT63},
    "segment-base": {"guest_es_base": 1 << 32},
    "cs-type": {"guest_cs_ar_bytes": 0xA091},
    "ss-type": {"guest_ss_ar_bytes": 0xC091},
    "data-type": {"guest_ds_ar_bytes": 0xC099},
    "segment-s": {"guest_tr_ar_bytes": 0x9B},
    "cs-dpl": {"guest_cs_ar_bytes": 0xA0FB},
    "ss-dpl": {"guest_cs_ar_bytes": 0xC0FF, "guest_ss_ar_bytes": 0xC0F3, **NO_UG},
    "data-dpl": {**NO_UG, "guest_ds_selector": 0x13},
    "segment-present": {"guest_ss_ar_bytes": 0xC013},
    "segment-reserved": {"guest_gs_ar_bytes": 0xC193},
    "cs-l-d": {"guest_cs_ar_bytes": 0xE09B},
    "segment-granularity": {"guest_cs_limit": 0xFFFFE},
    "tr-type": {"guest_tr_ar_bytes": 0x83},
    "tr-usable": {"guest_tr_ar_bytes": 0x1008B},
    "ldtr-type": {**LDT, "guest_ldt_ar_bytes": 0x83},
    "activity-state": {"guest_activity_state": 4},
    "activity-hlt": {"guest_activity_state": 1, "guest_ss_ar_bytes": 0xC0F3, "guest_cs_ar_bytes": 0xA0FB},
    "activity-blocked": {"guest_activity_state": 2, "guest_interruptibility": 2},
    "activity-event": {"guest_activity_state": 3, "vm_entry_interruption_info": NMI},
    "interruptibility-reserved": {"guest_interruptibility": 1 << 5},
    "sti-movss": {"guest_interruptibility": 3, "guest_rflags": 0x202},
    "sti-if": {"guest_interruptibility": 1},
    "irq-blocked": {"guest_interruptibility": 2, "guest_rflags": 0x202, "vm_entry_interruption_info": IRQ},
    "nmi-blocked": {"guest_interruptibility": 2, "vm_entry_interruption_info": NMI},
    "nmi-sti": {"guest_interruptibility": 1, "guest_rflags": 0x202, "vm_entry_interruption_info": NMI},
    "nmi-virtual": {"guest_interruptibility": 8, "vm_entry_interruption_info": NMI},
    "smi-blocked": {"guest_interruptibility": 4},
    "pending-debug-reserved": {"guest_pending_debug_exceptions": 1 << 13},
    "pending-debug-bs": {"guest_interruptibility": 2, "guest_rflags": 0x102},
    "pdpte-reserved": {**PAE, "guest_pdptr2": 0x1003},
    "control-nmi": {"pin_based_controls": G["pin_based_controls"] & ~(1 << 3)},
    "control-tpr-shadow": {
        "secondary_controls": G["secondary_controls"] | 1 << 8,
        "cpu_based_controls": G["cpu_based_controls"] & ~(1 << 21),
    },
    "control-x2apic": {
        "secondary_controls": G["secondary_controls"] | 1 << 4 | 1 << 0,
        "cpu_based_controls": G["cpu_based_controls"] | 1 << 21,
        "tpr_threshold": 0,
        "virtual_apic_address": 0x1000,
        "apic_access_address": 0x2000,
    },
    "control-interrupt-delivery": {
        **VID,
        "virtual_apic_address": 0x1000,
        "pin_based_controls": G["pin_based_controls"] & ~1,
    },
    "control-posted": {"pin_based_controls": G["pin_based_controls"] | 1 << 7},
    "control-vpid": {"vpid": 0},
    "control-ept": {"secondary_controls": G["secondary_controls"] & ~(1 << 1)},
    "ept-pointer": {"ept_pointer": 0x1001},
    "tpr-threshold": {
        "cpu_based_controls": G["cpu_based_controls"] | 1 << 21,
        "tpr_threshold": 0x10,
        "virtual_apic_address": 0x1000,
    },
    "apic-addresses": {
        "cpu_based_controls": G["cpu_based_controls"] | 1 << 21,
        "tpr_threshold": 0,
        "virtual_apic_address": 0x1800,
    },
    "control-timer": {
        "vm_exit_controls": G["vm_exit_controls"] | 1 << 22,
        "pin_based_controls": G["pin_based_controls"] & ~(1 << 6),
    },
    "host-address-space": {"vm_exit_controls": G["vm_exit_controls"] & ~(1 << 9)},
    "inject-type": {"vm_entry_interruption_info": 0x80000120},
    "inject-vector": {"vm_entry_interruption_info": 0x80000203},
    "inject-error-code": {"vm_entry_interruption_info": 0x8000030D},
    "inject-reserved": {"vm_entry_interruption_info": NMI | 1 << 20},
    "inject-error-code-high": {"vm_entry_interruption_info": GP, "vm_entry_exception_error_code": 1 << 16},
    "inject-length": {"vm_entry_interruption_info": 0x80000603, "vm_entry_instruction_length": 0},
    "control-smm": {"vm_entry_controls": ENTRY | 1 << 10},
    "host-cr0": {"host_cr0": G["host_cr0"] & ~(1 << 5)},
    "host-cr4": {"host_cr4": G["host_cr4"] & ~(1 << 13)},
    "host-cr3": {"host_cr3": 1 << 60},
    "host-sysenter": {"host_sysenter_esp": BIT63},
    "host-pat": {"host_pat": 2},
    "host-efer": {"host_efer": 0x100},
    "host-selectors": {"host_ds": 3},
    "host-null": {"host_tr": 0},
    "host-bases": {"host_gs_base": BIT63},
}
SVM: dict[str, dict[str, int]] = {
    "svm-efer-svme": {"save_efer": 0x500},
    "svm-cr0-cd-nw": {"save_cr0": 0xA0000033},
    "svm-cr0-high": {"save_cr0": 0x180000033},
    "svm-cr3-reserved": {"save_cr3": 1 << 52},
    "svm-cr4-reserved": {"save_cr4": 1 << 13 | 0x620},
    "svm-dr6-high": {"save_dr6": 1 << 32},
    "svm-dr7-high": {"save_dr7": 1 << 63},
    "svm-efer-reserved": {"save_efer": 0x1502},
    "svm-lme-pae": {"save_cr4": 0x600},
    "svm-lme-pe": {"save_cr0": 0x80000032},
    "svm-cet-wp": {"save_cr4": 1 << 23 | 0x620, "save_cr0": 0x80000033},
    "svm-vmrun-intercept": {"intercept_word4": 0x6F7E},
    "svm-asid": {"asid": 0},
    "svm-permission-maps": {"iopm_base_pa": 1 << 52},
    "svm-event-type": {"event_inj": 0x80000120},
    "svm-event-vector": {"event_inj": 0x80000302},
    "svm-pat": {"gpat": 2},
    "svm-sev": {"nested_ctl": 2},
    "svm-allowed-sev-features": {
        "nested_ctl": 7,
        "allowed_sev_features": 1 << 63 | 0b01,
        "guest_sev_features": 0b101,
    },
}


def test_the_good_states_keep_every_rule() -> None:
    """A genuine dump with its one wrong value put right breaks nothing, and leaves nothing undecided."""
    for vendor in ("vmx", "svm"):
        result = held(vendor)
        assert (result.violations, result.unknown) == ((), ())
        assert len(result.passed) == len(RULES[vendor])


@pytest.mark.parametrize("rule", [rule.id for rule in RULES["vmx"]])
def test_each_vmx_rule_breaks_alone(rule: str) -> None:
    """The change that breaks a rule of SDM chapter 27 breaks that one, and no other."""
    assert broken(held("vmx", **VMX[rule])) == {rule}


@pytest.mark.parametrize("rule", [rule.id for rule in RULES["svm"] if rule.id != "svm-cs-l-d"])
def test_each_svm_rule_breaks_alone(rule: str) -> None:
    """The change that breaks a rule of APM 15.5.1 breaks that one, and no other."""
    assert broken(held("svm", **SVM[rule])) == {rule}


def test_cs_l_and_d_on_svm() -> None:
    """The one segment rule that AMD has, on the genuine dump in which it is broken."""
    first, *_ = kernel_log.read(Text((FIXTURES / "svm-6.1.dmesg").read_text())).failures
    assert first.cpu
    (violation,) = check(first.cpu, first.control, vendor="svm").violations
    assert violation.rule.id == "svm-cs-l-d"
    assert violation.rule.section == "APM vol. 2, 15.5.1"
    assert violation.value == "CS access rights=0xe09b"


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted(G))), st.sampled_from(sorted(VMX)))
def test_what_is_not_shown_is_never_called_broken(lost: set[str], rule: str) -> None:
    """Fields that are missing make rules unknown; no rule breaks that the whole state keeps, none is lost."""
    full = held("vmx", **VMX[rule])
    part = held("vmx", **{**VMX[rule], **dict.fromkeys(lost)})
    assert broken(part) <= broken(full)
    assert len(part.violations) + len(part.unknown) + len(part.passed) == len(RULES["vmx"])


U64 = st.integers(0, (1 << 64) - 1)
REGISTERS = st.dictionaries(st.sampled_from(("cr0", "cr3", "cr4", "efer", "rflags", "rip", "dr6", "dr7")), U64)
SEGMENTS = st.dictionaries(
    st.sampled_from(("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr", "gdt", "idt")),
    st.builds(Segment, st.integers(0, 0xFFFF), U64, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
)


@settings(deadline=None)
@given(
    REGISTERS,
    SEGMENTS,
    st.dictionaries(st.sampled_from(sorted({*G, *good("svm")})), U64),
    st.sampled_from(("vmcs", "vmcb", None)),
    st.sampled_from(("vmx", "svm")),
    st.sampled_from((True, False, None)),
)
def test_any_record_is_judged(  # noqa: PLR0917 -- hypothesis fills them in
    registers: dict[str, int],
    segments: dict[str, Segment],
    fields: dict[str, int],
    kind: str | None,
    vendor: Vendor,
    unrestricted: bool | None,
) -> None:
    """Whatever a record holds, every rule ends up in exactly one place, and nothing raises."""
    control = ControlBlock(kind, fields) if kind else None  # type: ignore[arg-type]  # one of the two
    result = check(Cpu(registers=registers, segments=segments), control, vendor=vendor, unrestricted=unrestricted)
    seen = [v.rule.id for v in result.violations] + [u.rule.id for u in result.unknown] + [r.id for r in result.passed]
    assert sorted(seen) == sorted(rule.id for rule in RULES[vendor])


def test_ids_are_unique_and_sections_are_named() -> None:
    """A rule is known by its id; each says where the manual has it, and what must be."""
    for rules in RULES.values():
        assert len({rule.id for rule in rules}) == len(rules)
        for rule in rules:
            assert rule.section.startswith(("SDM vol. 3C, 27.", "APM vol. 2, 15."))
            assert rule.sentence[0].islower() or rule.sentence.split()[0].rstrip(",").isupper() or "." in rule.sentence


REAL = Cpu(
    registers={"cr0": 0x10, "cr3": 0, "cr4": 0, "efer": 0, "rflags": 2, "rip": 0x100},
    segments={
        "cs": Segment(0x1000, 0x10000, 0xFFFF, 0x9B00),
        **{name: Segment(0, 0, 0xFFFF, 0x9300) for name in ("ss", "ds", "es", "fs", "gs")},
        "ldt": Segment(0, 0, 0xFFFF, 0x8200),
        "tr": Segment(0, 0, 0xFFFF, 0x8B00),
        "gdt": Segment(0, 0, 0xFFFF, 0),
        "idt": Segment(0, 0, 0x3FF, 0),
    },
)


def changed(**segments: Segment) -> Cpu:
    return msgspec.structs.replace(REAL, segments={**REAL.segments, **segments})


def test_which_bits_of_cr4_a_cpu_has_is_its_own_affair() -> None:
    """IA32_VMX_CR4_FIXED1 differs from CPU to CPU: a bit that Linux does not use for itself may be one it lacks."""
    assert "cr4-reserved" in {rule.id for rule in held("vmx").passed}
    smxe = held("vmx", guest_cr4=G["guest_cr4"] | 1 << 14)
    assert "cr4-reserved" in {unknown.rule.id for unknown in smxe.unknown}
    assert not smxe.violations


def test_real_mode_depends_on_the_host() -> None:
    """SS.DPL 3 in real mode is refused by a CPU that runs real mode itself, and made to fit by KVM elsewhere."""
    cpu = changed(ss=Segment(0, 0, 0xFFFF, 0xF300), cs=Segment(0x1000, 0x10000, 0xFFFF, 0xFB00))
    assert broken(check(cpu, vendor="vmx", unrestricted=True)) == {"ss-dpl"}
    restricted = check(cpu, vendor="vmx", unrestricted=False)
    assert not restricted.violations
    assert {u.missing for u in restricted.unknown if u.rule.id == "ss-dpl"} == {EMULATED}
    either = check(cpu, vendor="vmx")
    assert not either.violations
    (doubt,) = [u for u in either.unknown if u.rule.id == "ss-dpl"]
    assert doubt.missing == DEPENDS
    assert doubt.value == "SS.DPL=3, CR0=0x10"


def test_unreal_mode_is_legal_either_way() -> None:
    """A 4-GiB data segment in real mode, as firmware uses it: entered with, or emulated; never called broken."""
    cpu = changed(ds=Segment(0, 0, 0xFFFFFFFF, 0x809300))
    for unrestricted in (True, False, None):
        assert not check(cpu, vendor="vmx", unrestricted=unrestricted).violations
    assert not check(cpu, vendor="svm").violations


def test_the_width_of_addresses_decides() -> None:
    """Between 48 and 57 bits it is the CPU that decides, and it is said that it is not known."""
    cpu = changed(fs=Segment(0, 0x1000000000000, 0xFFFF, 0x9300))
    assert broken(check(cpu, vendor="vmx", unrestricted=True, wide_addresses=False)) == {"base-canonical"}
    assert not check(cpu, vendor="vmx", unrestricted=True, wide_addresses=True).violations
    (doubt,) = [u for u in check(cpu, vendor="vmx", unrestricted=True).unknown if u.rule.id == "base-canonical"]
    assert "57 bits" in doubt.missing


def test_an_encrypted_guests_registers_are_not_judged() -> None:
    """The save area of an SEV-ES guest is not what VMRUN loads, unless KVM dumped the decrypted one."""
    hidden = held("svm", nested_ctl=7, save_cr0=1 << 40)
    assert "svm-cr0-high" in {u.rule.id for u in hidden.unknown}
    assert broken(held("svm", nested_ctl=7, save_cr0=1 << 40 | 0x33, sev_features=1)) == {"svm-cr0-high"}
