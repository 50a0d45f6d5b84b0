"""What events print, in each release and by each tool, back to the fields of their tracepoints."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.readers.trace import ftrace
from kvmwhy.readers.trace.event_text import fields, vcpu_of
from kvmwhy.readers.trace.events import STORY
from kvmwhy.readers.trace.symbols import exit_reason
from readers.trace.samples import RELEASES, text_of

VMX_EXIT = {"exit_reason": 48, "isa": 1, "guest_rip": 0xFFF0, "info1": 0x184, "info2": 0x80000B0E}


@pytest.mark.parametrize(
    ("name", "phrase", "expected"),
    [
        ("kvm_entry", "vcpu 2, rip 0x10", {"vcpu_id": 2, "rip": 16}),
        ("kvm_entry", "vcpu 2", {"vcpu_id": 2}),  # up to 5.4
        ("kvm_entry", "vcpu 2, rip 0x10[immediate exit]", {"vcpu_id": 2, "rip": 16, "immediate_exit": 1}),
        (
            "kvm_entry",
            "vcpu 2, rip 0x10 intr_info 0x80000306 error_code 0x00000000",
            {"vcpu_id": 2, "rip": 16, "intr_info": 0x80000306, "error_code": 0},
        ),
        ("kvm_exit", "reason EPT_VIOLATION rip 0xfff0 info 184 80000b0e", VMX_EXIT),
        ("kvm_exit", "vcpu 1 reason EPT_VIOLATION rip 0xfff0 info 184 80000b0e", {"vcpu_id": 1, **VMX_EXIT}),
        (
            "kvm_exit",
            "vcpu 1 reason EPT_VIOLATION rip 0xfff0 info1 0x184 info2 0x80000b0e intr_info 0x5 error_code 0 requests 4",
            {"vcpu_id": 1, **VMX_EXIT, "intr_info": 5, "error_code": 0, "requests": 4},
        ),
        (
            "kvm_exit",
            "vcpu 0 reason INVALID_STATE FAILED_VMENTRY rip 0x0 info1 0x0 info2 0x0 intr_info 0x0 error_code 0x0",
            {"vcpu_id": 0, "exit_reason": 0x80000021, "isa": 1, "guest_rip": 0, "info1": 0, "info2": 0}
            | {"intr_info": 0, "error_code": 0},
        ),
        (
            "kvm_exit",
            "vcpu 0 reason EPT_VIOLATION 0x8000000 rip 0x0 info1 0x0 info2 0x0",
            {"vcpu_id": 0, "exit_reason": 0x8000030, "isa": 1, "guest_rip": 0, "info1": 0, "info2": 0},
        ),
        ("kvm_exit", "vcpu 0 reason UD excp rip 0x9", {"vcpu_id": 0, "exit_reason": 0x46, "isa": 2, "guest_rip": 9}),
        ("kvm_exit", "reason EXIT_NPF rip 0x9 info 4 8", {"exit_reason": 0x400, "isa": 2, "guest_rip": 9}
         | {"info1": 4, "info2": 8}),
        ("kvm_exit", "reason UNKNOWN (2147483681) rip 0x9 info 0 0", {"exit_reason": 0x80000021, "guest_rip": 9}
         | {"info1": 0, "info2": 0}),
        ("kvm_exit", "vcpu 0 reason frobnicate rip 0x9", {"vcpu_id": 0, "exit_reason": "frobnicate", "guest_rip": 9}),
        (
            "kvm_nested_vmexit",
            "rip 9 reason EPT_VIOLATION info1 184 info2 0 int_info 0 int_info_err 0",
            {"rip": 9, "exit_code": 48, "isa": 1, "exit_info1": 0x184, "exit_info2": 0}
            | {"exit_int_info": 0, "exit_int_info_err": 0},
        ),
        (
            "kvm_nested_vmexit_inject",
            "reason: npf ext_inf1: 0x100000004 ext_inf2: 0xd0000000 ext_int: 0x00000000 ext_int_err: 0x00000000",
            {"exit_code": 0x400, "isa": 2, "exit_info1": 0x100000004, "exit_info2": 0xD0000000}
            | {"exit_int_info": 0, "exit_int_info_err": 0},
        ),
        (
            "kvm_emulate_insn",
            "f0000:fff0:c5 fe 6f 03 (prot32) failed",
            {"rip": 0xFFF0, "csbase": 0xF0000, "len": 4, "insn": "c5 fe 6f 03", "flags": 5, "failed": 1},
        ),
        ("kvm_emulate_insn", "0:10: (prot64)", {"rip": 16, "csbase": 0, "len": 0, "insn": "", "flags": 9, "failed": 0}),
        ("kvm_emulate_insn", "0:10:cd 10 (0x2) failed", {"rip": 16, "csbase": 0, "len": 2, "insn": "cd 10"}
         | {"flags": 2, "failed": 1}),
        ("kvm_emulate_insn", "0:10: d9 03 FAIL", {"rip": 16, "csbase": 0, "len": 2, "insn": "d9 03", "failed": 1}),
        (
            "kvm_emulate_insn",
            " rip=10100 csbase=f0000 len=2 insn=ARRAY[d9, 03, f4, f4] flags=9 failed=1",
            {"rip": 0x10100, "csbase": 0xF0000, "len": 2, "insn": "d9 03", "flags": 9, "failed": 1},
        ),
        ("kvm_userspace_exit", "reason KVM_EXIT_INTERNAL_ERROR (17)", {"reason": 17, "errno": 0}),
        ("kvm_userspace_exit", "reason restart (4)", {"errno": -4}),
        ("kvm_userspace_exit", "reason error (14)", {"errno": -14}),
        ("kvm_userspace_exit", "reason 0x27 (39)", {"reason": 39, "errno": 0}),
        ("kvm_userspace_exit", " reason=17 errno=-14", {"reason": 17, "errno": -14}),
        ("kvm_inj_exception", "#PF (0x2)", {"exception": 14, "has_error": 1, "error_code": 2, "reinjected": 0}),
        ("kvm_inj_exception", "#UD [reinjected]", {"exception": 6, "has_error": 0, "reinjected": 1}),
        (
            "kvm_inj_exception",
            "[FAILED TO PARSE] exception=6 has_error=0 error_code=0 reinjected=0",
            {"exception": 6, "has_error": 0, "error_code": 0, "reinjected": 0},
        ),
        ("kvm_inj_virq", "irq 32", {"irq": 32}),
        ("kvm_inj_virq", "IRQ 0x20", {"vector": 32, "soft": 0, "reinjected": 0}),
        ("kvm_inj_virq", "Soft/INTn 0x80 [reinjected]", {"vector": 128, "soft": 1, "reinjected": 1}),
        ("kvm_mmio", "mmio unsatisfied-read len 4 gpa 0xd0000000 val 0x0", {"type": 0, "len": 4}
         | {"gpa": 0xD0000000, "val": 0}),
        ("kvm_fast_mmio", "fast mmio at gpa 0xfee000b0", {"gpa": 0xFEE000B0}),
        ("kvm_page_fault", "address 4000 error_code 6", {"fault_address": 0x4000, "error_code": 6}),
        ("kvm_page_fault", "vcpu 1 rip 0x9 address 0x0000000000004000 error_code 0x100000006", {"vcpu_id": 1}
         | {"guest_rip": 9, "fault_address": 0x4000, "error_code": 0x100000006}),
        ("kvm_pio", "pio_write at 0x80 size 1 count 1 val 0x2a ", {"rw": 1, "port": 128, "size": 1, "count": 1}
         | {"val": 42}),
        ("vcpu_match_mmio", "gva 0xd0000000 gpa 0xd0000000 Read GVA", {"gva": 0xD0000000, "gpa": 0xD0000000}
         | {"write": 0, "gpa_match": 0}),
        ("kvm_msr", "msr_write 1d9 = 0x1 (#GP)", {"write": 1, "ecx": 0x1D9, "data": 1, "exception": 1}),
        ("kvm_cr", "cr_write 0 = 0x80000011", {"rw": 1, "cr": 0, "val": 0x80000011}),
        ("kvm_apic", "apic_read APIC_ID = 0x0", {"text": "apic_read APIC_ID = 0x0"}),
        ("kvm_exit", "nothing of the sort", {"text": "nothing of the sort"}),
    ],
)  # fmt: skip
def test_a_phrase(name: str, phrase: str, expected: dict[str, object]) -> None:
    """Templates of 5.4 to 7.3, of libtraceevent's plugin, of report -R."""
    assert fields(name, phrase) == expected


@pytest.mark.parametrize("release", RELEASES)
def test_every_exit_name_of_a_kernel_is_known(release: str) -> None:
    """The table in kvm_exit's own format file: each name leads to its number."""
    block = text_of(release, "formats").partition("name: kvm_exit\n")[2].partition("\nname: ")[0]
    halves = block.partition("print fmt")[2].partition(") : __print_symbolic(")
    assert halves[1]
    for isa, half in ((1, halves[0]), (2, halves[2])):
        table = re.findall(r"\{ (0x[0-9a-f]+|-?\d+|[\d()x+a-f ]+), \"([A-Za-z0-9_ ]+)\" \}", half)
        assert len(table) > 50
        for number, name in table:
            if name == "FAILED_VMENTRY":
                continue
            value = sum(int(part.strip(" ()"), 0) for part in number.split("+"))
            assert exit_reason(name) == (value & 0xFFFFFFFF, isa), name


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["plain", "report", "report-raw", "report-no-plugins", "perf"])
def test_genuine_events_are_understood(release: str, name: str) -> None:
    """All but kvm_cpuid, whose words no failure needs."""
    strange = {event.name for event in ftrace.events(text_of(release, name)) if "text" in event.fields}
    assert strange <= {"kvm_cpuid"}


@given(
    st.sampled_from(sorted(STORY)), st.text(alphabet="0123456789abcdefx (),:=-[]#vcpu reason rip info\t", max_size=90)
)
def test_any_phrase(name: str, phrase: str) -> None:
    """Something comes out, whatever went in."""
    found = fields(name, phrase)
    assert all(isinstance(value, int | str) for value in found.values())
    assert vcpu_of(phrase) is None or isinstance(vcpu_of(phrase), int)


@given(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
    st.binary(max_size=15),
    st.sampled_from([("real", 0), ("vm16", 3), ("prot16", 1), ("prot32", 5), ("prot64", 9), ("0x2", 2)]),
    st.booleans(),
)
def test_emulations_come_back_from_their_print(
    rip: int, base: int, insn: bytes, mode: tuple[str, int], failed: bool
) -> None:
    """The kernel's print fmt: "%x:%llx:%s (%s)%s"."""
    phrase = f"{base:x}:{rip:x}:{insn.hex(' ')} ({mode[0]}){' failed' if failed else ''}"
    assert fields("kvm_emulate_insn", phrase) == {
        "rip": rip,
        "csbase": base,
        "len": len(insn),
        "insn": insn.hex(" "),
        "flags": mode[1],
        "failed": int(failed),
    }
