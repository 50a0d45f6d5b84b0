"""Dumps printed here, from values, as each age of the kernel prints them: every value comes back.

The lines are written down a second time, from vmx.c and svm.c of those kernels; nothing comes from the reader.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import kernel_log
from kvmwhy.record import Failure

SEGMENTS = ("cs", "ds", "ss", "es", "fs", "gs")
u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))
Values = dict[str, int]


def drawn(names: str, values: st.SearchStrategy[int]) -> st.SearchStrategy[Values]:
    return st.fixed_dictionaries(dict.fromkeys(names.split(), values))


@st.composite
def vmcs_values(draw: st.DrawFn) -> Values:
    """Some of each width; the names are the record's."""
    wide = (
        "guest_cr0 cr0_read_shadow cr0_guest_host_mask guest_cr4 guest_cr3 guest_rsp guest_rip guest_rflags guest_dr7"
    )
    wide += " guest_efer guest_pat guest_pdptr0 guest_pdptr3 host_cr0 host_efer host_gdtr_base exit_qualification"
    wide += " guest_pending_debug_exceptions ept_pointer tertiary_controls"
    narrow = "secondary_controls pin_based_controls vm_entry_controls vm_exit_controls exception_bitmap"
    narrow += " vm_entry_interruption_info guest_interruptibility idt_vectoring_info guest_gdt_limit"
    values = draw(drawn(wide, u64)) | draw(drawn(narrow, u32)) | draw(drawn("host_cs host_tr vpid", u16))
    for name in (*SEGMENTS, "ldt", "tr"):
        parts = f"guest_{name}_selector guest_{name}_base guest_{name}_limit guest_{name}_ar_bytes"
        for part, width in zip(parts.split(), (u16, u64, u32, st.integers(0, 0x1FFFF)), strict=True):
            values[part] = draw(width)
    values["exit_reason"] = draw(st.sampled_from((0x80000021, 0x80000022, 0x30, 0)))
    return values


def _segment(label: str, name: str, v: Values) -> str:
    p = f"guest_{name}_"
    return (
        f"{label:<5}sel=0x{v[p + 'selector']:04x}, attr=0x{v[p + 'ar_bytes']:05x},"
        f" limit=0x{v[p + 'limit']:08x}, base=0x{v[p + 'base']:016x}"
    )


def _control_register(name: str, actual: int, shadow: int, mask: int) -> str:
    return f"{name}: actual=0x{actual:016x}, shadow=0x{shadow:016x}, gh_mask={mask:016x}"


def print_vmcs(v: Values, age: str) -> list[str]:
    """``age``: 4.4, 5.10, 5.15 or 6.1."""
    new = age in {"5.15", "6.1"}
    efer, pat = v["guest_efer"], v["guest_pat"]
    return [
        *(["VMCS 00000000fc71b951, last attempted VM-entry on CPU 3"] if new else []),
        "*** Guest State ***",
        _control_register("CR0", v["guest_cr0"], v["cr0_read_shadow"], v["cr0_guest_host_mask"]),
        _control_register("CR4", v["guest_cr4"], 0, 0),
        f"CR3 = 0x{v['guest_cr3']:016x}",
        f"PDPTR0 = 0x{v['guest_pdptr0']:016x}  PDPTR1 = 0x{1:016x}",
        f"PDPTR2 = 0x{2:016x}  PDPTR3 = 0x{v['guest_pdptr3']:016x}",
        f"RSP = 0x{v['guest_rsp']:016x}  RIP = 0x{v['guest_rip']:016x}",
        f"RFLAGS=0x{v['guest_rflags']:08x}         DR7 = 0x{v['guest_dr7']:016x}",
        f"Sysenter RSP={1:016x} CS:RIP={2:04x}:{3:016x}",
        *(_segment(f"{name.upper()}:", name, v) for name in SEGMENTS),
        f"GDTR:                           limit=0x{v['guest_gdt_limit']:08x}, base=0x{7:016x}",
        _segment("LDTR:", "ldt", v),
        f"IDTR:                           limit=0x{8:08x}, base=0x{9:016x}",
        _segment("TR:", "tr", v),
        *(
            [f"EFER= 0x{efer:016x}", f"PAT = 0x{pat:016x}"]
            if new
            else [f"EFER =     0x{efer:016x}  PAT = 0x{pat:016x}"]
        ),
        f"DebugCtl = 0x{0:016x}  DebugExceptions = 0x{v['guest_pending_debug_exceptions']:016x}",
        f"Interruptibility = {v['guest_interruptibility']:08x}  ActivityState = {0:08x}",
        "*** Host State ***",
        f"RIP = 0x{11:016x}  RSP = 0x{12:016x}",
        f"CS={v['host_cs']:04x} SS={0x18:04x} DS={0:04x} ES={0:04x} FS={0:04x} GS={0:04x} TR={v['host_tr']:04x}",
        f"FSBase={13:016x} GSBase={14:016x} TRBase={15:016x}",
        f"GDTBase={v['host_gdtr_base']:016x} IDTBase={16:016x}",
        f"CR0={v['host_cr0']:016x} CR3={17:016x} CR4={18:016x}",
        f"Sysenter RSP={19:016x} CS:RIP={20:04x}:{21:016x}",
        *(
            [f"EFER= 0x{v['host_efer']:016x}", f"PAT = 0x{22:016x}"]
            if new
            else [f"EFER = 0x{v['host_efer']:016x}  PAT = 0x{22:016x}"]
        ),
        "*** Control State ***",
        *_control_words(v, age),
        f"ExceptionBitmap={v['exception_bitmap']:08x} PFECmask={0:08x} PFECmatch={0:08x}",
        f"VMEntry: intr_info={v['vm_entry_interruption_info']:08x} errcode={0:08x} ilen={1:08x}",
        f"VMExit: intr_info={0:08x} errcode={0:08x} ilen={2:08x}",
        f"        reason={v['exit_reason']:08x} qualification={v['exit_qualification']:016x}",
        f"IDTVectoring: info={v['idt_vectoring_info']:08x} errcode={0:08x}",
        f"TSC Offset = 0x{23:016x}",
        "SVI|RVI = 00|00 TPR Threshold = 0x00",
        f"APIC-access addr = 0x{24:016x} virt-APIC addr = 0x{25:016x}",
        f"EPT pointer = 0x{v['ept_pointer']:016x}",
        *([f"CR3 target0={0:016x} target1={0:016x}"] if age == "4.4" else []),
        f"Virtual processor ID = 0x{v['vpid']:04x}",
    ]


def _control_words(v: Values, age: str) -> list[str]:
    if age == "6.1":
        pin, entry, exits = v["pin_based_controls"], v["vm_entry_controls"], v["vm_exit_controls"]
        second, third = v["secondary_controls"], v["tertiary_controls"]
        return [
            f"CPUBased=0x{26:08x} SecondaryExec=0x{second:08x} TertiaryExec=0x{third:016x}",
            f"PinBased=0x{pin:08x} EntryControls={entry:08x} ExitControls={exits:08x}",
        ]
    return [
        f"PinBased={v['pin_based_controls']:08x} CPUBased={26:08x} SecondaryExec={v['secondary_controls']:08x}",
        f"EntryControls={v['vm_entry_controls']:08x} ExitControls={v['vm_exit_controls']:08x}",
    ]


@st.composite
def vmcb_values(draw: st.DrawFn) -> Values:
    wide = "save_cr0 save_cr2 save_cr3 save_cr4 save_dr6 save_dr7 save_rip save_rflags save_rsp save_rax save_efer gpat"
    wide += " tsc_offset exit_info1 exit_info2 nested_cr3 next_rip br_from kernel_gs_base"
    narrow = "intercept_exceptions intercept_word3 intercept_word4 int_ctl exit_int_info event_inj event_inj_err"
    values = (
        draw(drawn(wide, u64)) | draw(drawn(narrow, u32)) | draw(drawn("intercept_cr_read intercept_dr_write", u16))
    )
    values |= draw(drawn("asid pause_filter_threshold nested_ctl", st.integers(0, 65535)))
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "gdt", "ldt", "idt", "tr"):
        for part, width in (("selector", u16), ("attrib", st.integers(0, 0xFFF)), ("limit", u32), ("base", u64)):
            values[f"save_{name}_{part}"] = draw(width)
    values["exit_code"] = draw(st.sampled_from((0xFFFFFFFF, 0x400, 0x7F)))
    values["cpl"] = draw(st.integers(0, 3))
    return values


def print_vmcb(v: Values, age: str) -> list[str]:
    """``age``: 4.4, 5.10, 6.1 or 7.3."""

    def control(label: str, text: str) -> str:
        return f"{label + ':':<20}{text}"

    def pair(first: str, one: int, second: str, other: int) -> str:
        return f"{first + ':':<15} {one:016x} {second + ':':<13} {other:016x}"

    def segment(label: str, name: str) -> str:
        p = f"save_{name}_"
        return (
            f"{label + ':':<5} s: {v[p + 'selector']:04x} a: {v[p + 'attrib']:04x}"
            f" l: {v[p + 'limit']:08x} b: {v[p + 'base']:016x}"
        )

    head = {"6.1": "VMCB 00000000a4006788, ", "7.3": "SVM vCPU7 VMCB 00000000759a48a5, "}.get(age)
    digits = 16 if age == "7.3" else 8
    words = f"{v['intercept_word3']:08x} {v['intercept_word4']:08x}"
    if age == "4.4":
        words = f"{v['intercept_word4'] << 32 | v['intercept_word3']:016x}"
    cpl = f"cpl:            {v['cpl']}                efer:         {v['save_efer']:016x}"
    if age in {"6.1", "7.3"}:
        cpl = f"vmpl: 0   cpl:  {v['cpl']}               efer:          {v['save_efer']:016x}"
    names = (("es", "es"), ("cs", "cs"), ("ss", "ss"), ("ds", "ds"), ("fs", "fs"), ("gs", "gs"), ("gdtr", "gdt"))
    return [
        *([f"{head}last attempted VMRUN on CPU 5"] if head else []),
        "VMCB Control Area:",
        control("cr_read", f"{v['intercept_cr_read']:04x}"),
        control("cr_write", f"{0x110:04x}"),
        control("dr_read", f"{0xFF:04x}"),
        control("dr_write", f"{v['intercept_dr_write']:04x}"),
        control("exceptions", f"{v['intercept_exceptions']:08x}"),
        control("intercepts", words),
        control("pause filter count", "3000"),
        control("pause filter threshold", f"{v['pause_filter_threshold']}"),
        control("tsc_offset", f"{v['tsc_offset']:016x}"),
        control("asid", f"{v['asid']}"),
        control("int_ctl", f"{v['int_ctl']:08x}"),
        control("exit_code", f"{v['exit_code']:0{digits}x}"),
        control("exit_info1", f"{v['exit_info1']:016x}"),
        control("exit_info2", f"{v['exit_info2']:016x}"),
        control("exit_int_info", f"{v['exit_int_info']:08x}"),
        control("exit_int_info_err", f"{0:08x}"),
        control("misc_ctl" if age == "7.3" else "nested_ctl", f"{v['nested_ctl']}"),
        control("nested_cr3", f"{v['nested_cr3']:016x}"),
        control("event_inj", f"{v['event_inj']:08x}"),
        control("event_inj_err", f"{v['event_inj_err']:08x}"),
        control("misc_ctl2" if age == "7.3" else "virt_ext", "0"),
        control("next_rip", f"{v['next_rip']:016x}"),
        "VMCB State Save Area:",
        *(segment(*name) for name in (*names, ("ldtr", "ldt"), ("idtr", "idt"), ("tr", "tr"))),
        cpl,
        pair("cr0", v["save_cr0"], "cr2", v["save_cr2"]),
        pair("cr3", v["save_cr3"], "cr4", v["save_cr4"]),
        pair("dr6", v["save_dr6"], "dr7", v["save_dr7"]),
        pair("rip", v["save_rip"], "rflags", v["save_rflags"]),
        pair("rsp", v["save_rsp"], "rax", v["save_rax"]),
        pair("kernel_gs_base", v["kernel_gs_base"], "sysenter_cs", 0),
        pair("gpat", v["gpat"], "dbgctl", 0),
        pair("br_from", v["br_from"], "br_to", 0),
    ]


DUMP_AGES = [("vmcs", age) for age in ("4.4", "5.10", "5.15", "6.1")] + [
    ("vmcb", age) for age in ("4.4", "5.10", "6.1", "7.3")
]
PREFIX = {"4.4": "", "5.10": "", "5.15": "", "6.1": "", "7.3": "kvm_amd: "}


@st.composite
def dumps(draw: st.DrawFn, kinds: Any = None) -> tuple[Values, list[str], str]:
    kind, age = draw(st.sampled_from(kinds or DUMP_AGES))
    values = draw(vmcs_values() if kind == "vmcs" else vmcb_values())
    lines = print_vmcs(values, age) if kind == "vmcs" else print_vmcb(values, age)
    if kind == "vmcb" and age == "4.4":
        values = {k: v for k, v in values.items() if not k.startswith("intercept_word")}
    if kind == "vmcs" and age != "6.1":
        values = {k: v for k, v in values.items() if k != "tertiary_controls"}
    return values, [PREFIX[age] + line for line in lines], kind


def stamped(lines: list[str], caller: str = "", start: float = 100.0) -> list[str]:
    return [f"[{start + n / 1000:12.6f}]{caller} {line}" for n, line in enumerate(lines)]


def read(lines: list[str]) -> tuple[Failure, ...]:
    return kernel_log.read(Text("\n".join(lines) + "\n")).failures


def fields(failure: Failure) -> Values:
    assert failure.control
    return failure.control.fields


@settings(max_examples=40, deadline=None)
@given(dumps())
def test_every_value_comes_back(dump: tuple[Values, list[str], str]) -> None:
    """One failure, one dump, each printed value under its name, no damage but for a reason that the log lacks."""
    values, lines, kind = dump
    (failure,) = read(stamped(lines))
    found = fields(failure)
    assert {name: found.get(name) for name in values} == values
    assert failure.control
    assert failure.control.kind == kind
    assert not failure.cpu_shared
    assert not [remark for remark in failure.damage if "does not say why" not in remark]


@settings(max_examples=20, deadline=None)
@given(dumps())
def test_the_cpu_is_what_the_guest_sees(one: tuple[Values, list[str], str]) -> None:
    """CR0 through its mask on VMX; EFER without SVME on SVM; attributes as QEMU prints them."""
    values, lines, kind = one
    (failure,) = read(lines)
    assert failure.cpu
    if kind == "vmcs":
        actual, shadow = values["guest_cr0"], values["cr0_read_shadow"]
        mask = values["cr0_guest_host_mask"]
        assert failure.cpu.registers["cr0"] == (actual & ~mask) | (shadow & mask)
        for name in SEGMENTS:
            rights = values[f"guest_{name}_ar_bytes"]
            segment = failure.cpu.segments[name]
            assert segment.attributes & ~0x8000 == (rights & 0xF07F) << 8
            assert segment.present == bool(rights >> 7 & 1 and not rights >> 16 & 1)
    else:
        assert failure.cpu.registers["efer"] == values["save_efer"] & ~(1 << 12)
        assert failure.cpu.cpl == values["cpl"]
        packed = values["save_cs_attrib"]
        segment = failure.cpu.segments["cs"]
        assert (segment.attributes >> 8 & 0xFF, segment.attributes >> 20) == (packed & 0xFF, packed >> 8)


@settings(max_examples=20, deadline=None)
@given(dumps(), dumps(), st.data())
def test_callers_keep_interleaved_dumps_apart(
    one: tuple[Values, list[str], str], two: tuple[Values, list[str], str], data: st.DataObject
) -> None:
    """With printk.caller two CPUs may print line by line: each dump has its own values."""
    left, right = stamped(one[1], "[T11]"), stamped(two[1], "[   T22]")
    mixed = _shuffled(left, right, data)
    found = read(mixed)
    assert len(found) == 2
    assert not any(failure.cpu_shared for failure in found)
    truth = [one[0], two[0]] if mixed[0] == left[0] else [two[0], one[0]]
    for failure, values in zip(found, truth, strict=True):
        assert {name: fields(failure).get(name) for name in values} == values


@settings(max_examples=20, deadline=None)
@given(dumps(DUMP_AGES[:4]), dumps(DUMP_AGES[:4]), st.data())
def test_without_callers_a_mixture_is_called_one(
    one: tuple[Values, list[str], str], two: tuple[Values, list[str], str], data: st.DataObject
) -> None:
    """No value is invented, and both failures say that they may hold each other's values."""
    half = len(one[1]) // 2
    mixed = one[1][:half] + _shuffled(one[1][half:], two[1], data)
    found = read(stamped(mixed))
    if all(mixed.index(line) < mixed.index(two[1][0]) for line in one[1] if "IDTVectoring" in line):
        return  # the first was over before the second began
    assert all(failure.cpu_shared for failure in found)
    assert all("interleaved" in failure.damage[0] for failure in found)


def _shuffled(left: list[str], right: list[str], data: st.DataObject) -> list[str]:
    out, i, j = [], 0, 0
    while i < len(left) or j < len(right):
        if j == len(right) or (i < len(left) and data.draw(st.booleans())):
            out.append(left[i])
            i += 1
        else:
            out.append(right[j])
            j += 1
    return out


@settings(max_examples=40, deadline=None)
@given(dumps(), st.data())
def test_a_torn_dump_invents_nothing(dump: tuple[Values, list[str], str], data: st.DataObject) -> None:
    """Cut anywhere, with a few lines lost: what is read was printed under that name.

    With a whole stretch lost, headings included, nobody can tell the host's EFER and PAT from the guest's.
    """
    values, lines, _ = dump
    lost = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=3))
    text = "\n".join(line for n, line in enumerate(lines) if n not in lost)
    start, end = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    cut = text[start:end]
    cut = cut[cut.find("\n") + 1 :] if start else cut  # a line's beginning is its key
    cut = cut[: cut.rfind("\n") + 1]  # and half a number is another number
    for failure in kernel_log.read(Text(cut)).failures:
        if failure.control is None:
            continue
        for name, value in failure.control.fields.items():
            assert values.get(name, value) == value, name


@pytest.mark.parametrize("isa", ["vmx", "svm"])
def test_an_exit_without_handler_and_its_dump_are_one_failure(isa: str) -> None:
    """The line that announces the dump gives the reason; the dump gives the registers."""
    values = dict.fromkeys(_names(isa), 0) | {"exit_reason": 0x33, "exit_code": 0x79}
    lines = print_vmcs(values, "6.1") if isa == "vmx" else print_vmcb(values, "6.1")
    reason = 0x33 if isa == "vmx" else 0x79
    head = f"kvm [4711]: vcpu3, guest rIP: 0xffffffff81000000 {isa}: unexpected exit reason {reason:#x}"
    (failure,) = read(stamped([head, *lines]))
    assert (failure.kind, failure.suberror, failure.data) == ("internal-error", None, ())  # nobody printed a suberror
    assert failure.source.vcpu == 3
    assert failure.cpu
    assert failure.control
    assert failure.exit
    assert failure.exit.reason == reason
    assert failure.damage == ()
    (torn,) = read(stamped([head, *lines[:12]]))
    assert (torn.kind, torn.suberror) == ("internal-error", None)
    assert "cut" in torn.damage[0]


def test_a_line_without_a_dump_keeps_where_the_guest_was() -> None:
    """vcpu_unimpl() prints the vCPU and RIP (include/linux/kvm_host.h); with a dump, the dump has them."""
    head = "kvm [4711]: vcpu3, guest rIP: 0xffffffff81000000 vmx: unexpected exit reason 0x43"
    (failure,) = read(stamped([head]))
    assert failure.source.vcpu == 3
    assert failure.cpu
    assert failure.cpu.registers == {"rip": 0xFFFFFFFF81000000}


def _names(isa: str) -> set[str]:
    strategy = vmcs_values() if isa == "vmx" else vmcb_values()
    found: set[str] = set()

    @settings(max_examples=1, database=None, deadline=None)
    @given(strategy)
    def look(values: Values) -> None:
        found.update(values)

    look()
    return found


def test_a_part_of_the_kernel_is_no_file_of_greps() -> None:
    """pr_fmt of arch/x86/virt/vmx/tdx/tdx.c is "virt/tdx: ": its lines keep it, whatever stands around them."""
    lines = ["virt/tdx: module initialization failed (-5)", "kvm_intel: Failed to initialize TDX module."]
    (alone,) = read(stamped(lines))
    (among,) = read(stamped(["hello", *lines]))
    kinds = [(event.kind, event.fields.get("error")) for event in alone.host.events]
    assert kinds == [(event.kind, event.fields.get("error")) for event in among.host.events]
    assert ("tdx-not-enabled", -5) in kinds
