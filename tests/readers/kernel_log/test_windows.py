"""Any few lines out of a dump, of each age, are read as what they are, and nothing is made of what they do not show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvmwhy.readers import read

FIXTURES = Path(__file__).parents[2] / "fixtures" / "kernel-log"
DUMPS = ("vmx-5.10", "vmx-6.1", "vmx-6.1-restricted", "vmx-7.3", "svm-5.10", "svm-6.1", "svm-7.3")
_FAILED = re.compile(r"reason=8000002[0-9a-f]|exit_code: +(?:f{8}|0{8})?f{8}")


def first_dump(name: str) -> list[str]:
    lines = (FIXTURES / f"{name}.dmesg").read_text().splitlines()
    heads = [n for n, line in enumerate(lines) if "*** Guest State" in line or "VMCB Control Area" in line]
    start = heads[0] - (1 if "last attempted" in lines[max(heads[0] - 1, 0)] else 0)
    return lines[start : heads[1] - (1 if "last attempted" in lines[heads[1] - 1] else 0)]


@pytest.mark.parametrize("name", DUMPS)
@pytest.mark.parametrize("size", [5, 9, 14, 20])
def test_any_window_of_a_dump_is_a_record_of_it(name: str, size: int) -> None:
    """One record, of the right kind of control block, with values; an entry failed only where its mark is shown."""
    lines = first_dump(name)
    for start in range(len(lines) - size + 1):
        window = lines[start : start + size]
        failures = read(("\n".join(window) + "\n").encode()).failures
        assert len(failures) == 1, window
        (failure,) = failures
        assert failure.control is not None, window
        assert failure.control.kind == {"vmx": "vmcs", "svm": "vmcb"}[name[:3]]
        assert failure.control.fields
        assert failure.kind == ("entry-failure" if any(map(_FAILED.search, window)) else "other"), window
        assert (failure.suberror, failure.data) == (None, ())
        assert failure.hardware_error in {None, 0x80000021, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF}
        assert failure.arch == "x86"


@pytest.mark.parametrize("name", DUMPS)
def test_a_window_says_nothing_that_the_dump_does_not(name: str) -> None:
    """Each value of a window is that of the whole dump, under the same name; EFER and PAT have their owner's heading
    or none."""
    lines = first_dump(name)
    (whole,) = read(("\n".join(lines) + "\n").encode()).failures
    assert whole.control
    for start in range(len(lines) - 12):
        (failure,) = read(("\n".join(lines[start : start + 12]) + "\n").encode()).failures
        assert failure.control
        for key, value in failure.control.fields.items():
            assert whole.control.fields.get(key) == value, (start, key)


VALID = """\
[  9.0] kvm_intel: VMCS 00000000336523a9, last attempted VM-entry on CPU 8
[  9.0] kvm_intel: *** Guest State ***
[  9.0] kvm_intel: CR3 = 0x0000000004442000
[  9.0] kvm_intel: RSP = 0xffffc90000017418  RIP = 0xffffffff828e3a0c
[  9.0] kvm_intel: *** Control State ***
[  9.0] kvm_intel: VMExit: intr_info=00000000 errcode=00000000 ilen=00000003
[  9.0] kvm_intel:         reason=00000030 qualification=0000000000000981
[  9.0] kvm_intel: IDTVectoring: info=00000000 errcode=00000000
"""


def test_a_valid_exit_is_no_failed_entry() -> None:
    """Nothing says why the dump was printed: it is a dump without its line, and that is said."""
    (failure,) = read(VALID.encode()).failures
    assert (failure.kind, failure.hardware_error, failure.exit_reason) == ("other", None, None)
    assert failure.exit
    assert failure.exit.reason == 0x30
    assert any("does not say why" in remark for remark in failure.damage)


def test_a_dump_in_a_trace_was_made_on_purpose() -> None:
    """trace_printk writes into ftrace's buffer; the kernel's own dumps go to its log."""
    text = "\n".join(
        line.replace("[  9.0] kvm_intel: ", "CPU 0/KVM-4243 [001] 12461.840674: bprint: dump_vmcs: ")
        for line in VALID.splitlines()
    )
    (failure,) = read((text + "\n").encode()).failures
    assert failure.kind == "healthy"


def test_a_dump_behind_a_warning_belongs_to_it() -> None:
    """handle_exception_nmi warns of a #VE and dumps the VMCS: the host's trouble, not a failed entry."""
    warning = "[  8.9] WARNING: CPU: 93 PID: 4242 at arch/x86/kvm/vmx/vmx.c:5217 handle_exception_nmi+0x418/0x5d0\n"
    (failure,) = read((warning + VALID).encode()).failures
    assert failure.kind == "host-trouble"
    assert failure.control
    assert [event.kind for event in failure.host.events] == ["warning"]


def test_msrs_that_are_loaded_with_the_entry_are_fields() -> None:
    """vmx_dump_msrs prints each list under its heading."""
    text = VALID + (
        "[  9.0] kvm_intel: MSR guest autoload:\n[  9.0] kvm_intel:    0: msr=0xc0000080 value=0x0000000000000d01\n"
        "[  9.0] kvm_intel: MSR host autoload:\n[  9.0] kvm_intel:    0: msr=0xc0000080 value=0x0000000000000500\n"
    )
    (failure,) = read(text.encode()).failures
    assert failure.control
    assert failure.control.fields["guest_autoload_msr_c0000080"] == 0xD01
    assert failure.control.fields["host_autoload_msr_c0000080"] == 0x500


def test_a_dump_of_xen_is_not_kvms() -> None:
    """Xen prints VMCSs under the same headings, with its own name before each line."""
    text = "(XEN) d2v0 VMLAUNCH error: 0x7\n(XEN) *** Guest State ***\n(XEN) CR3 = 0x00000000feffc000\n"
    assert [failure for failure in read(text.encode()).failures if failure.control] == []


def test_labels_in_a_trace_are_no_dump() -> None:
    """kvm_nested_intercepts prints the names that a VMCB dump has as well."""
    text = (
        "kvm_nested_vmrun: rip: 0x7ffbb280 vmcb: 0x8224000\n  nrip: 0xbe119 int_ctl: 0x01020000 event_inj: 0x00000000\n"
        "kvm_nested_intercepts: cr_read: 0000 cr_write: 0010 excp: 40060002\n  intercepts: fd44bfeb 0000217f 00000000\n"
    )
    assert [failure for failure in read(text.encode()).failures if failure.control] == []
