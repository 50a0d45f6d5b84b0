"""Genuine logs of seven kernels, captured in the lab: what is in them is what userspace did to the vCPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asking import asked
from kvmwhy.ingest.normalize import Text, clean
from kvmwhy.readers import kernel_log, read
from kvmwhy.record import ControlBlock, Cpu, Failure, Segment

FIXTURES = Path(__file__).parents[2] / "fixtures" / "kernel-log"
DUMPS = ("vmx-5.10", "vmx-6.1", "vmx-6.1-restricted", "vmx-7.3", "svm-5.10", "svm-6.1", "svm-7.3")


def failures_of(name: str) -> tuple[Failure, ...]:
    return kernel_log.read(clean((FIXTURES / f"{name}.dmesg").read_bytes())).failures


def parts(failure: Failure) -> tuple[Cpu, ControlBlock]:
    assert failure.cpu
    assert failure.control
    return failure.cpu, failure.control


@pytest.mark.parametrize("name", DUMPS)
def test_every_dump_is_read_whole(name: str) -> None:
    """Two failed entries each, with all registers and segments, and nothing torn."""
    first, second = failures_of(name)
    for failure in (first, second):
        cpu, control = parts(failure)
        # VMLAUNCH that fails itself leaves no exit: the dump does not say that an entry failed.
        assert failure.kind == ("other" if failure.hardware_error is None else "entry-failure")
        assert failure.host.vendor == name[:3]
        assert set(cpu.segments) == {"es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr", "gdt", "idt"}
        assert {"cr0", "cr3", "cr4", "efer", "rip", "rsp", "rflags", "dr7"} <= set(cpu.registers)
        assert control.kind == {"vmx": "vmcs", "svm": "vmcb"}[name[:3]]
        assert all("does not say why" in remark for remark in failure.damage)
    assert (second.source.line or 0) > (first.source.line or 0) == 1


def test_a_vmcs_of_6_1() -> None:
    """RIP above 4 GiB in 32-bit protected mode (KVM_SET_REGS), field by field as the text has it."""
    failure = failures_of("vmx-6.1")[0]
    cpu, control = parts(failure)
    assert failure.hardware_error == 0x80000021
    assert cpu.registers["rip"] == 0x100010100
    assert cpu.segments["cs"] == Segment(0x08, 0, 0xFFFFFFFF, 0xC09B00)
    assert cpu.segments["gdt"] == Segment(0, 0x1000, 0x4F, 0)
    # The guest's own CR4 has no VMXE; the CPU's has.
    assert (cpu.registers["cr4"], control.fields["guest_cr4"]) == (0x40600, 0x42600)
    assert control.fields["secondary_controls"] == 0x34EA
    assert control.fields["host_cs"] == 0x10
    assert control.fields["host_efer"] == 0xD01
    assert control.fields["guest_ldt_ar_bytes"] == 0x10000
    assert failure.exit
    assert (failure.exit.reason, failure.exit.info1, failure.exit.isa) == (0x80000021, 0, "vmx")


def test_an_instruction_error_is_not_in_the_log() -> None:
    """#GP without error code: error 7 for userspace; the log has the event, a stale reason, and a remark says so."""
    failure = failures_of("vmx-6.1")[1]
    _, control = parts(failure)
    assert control.fields["vm_entry_interruption_info"] == 0x8000030D
    assert failure.hardware_error is None
    assert "VM-instruction error" in failure.damage[0]


def test_a_vmcb_of_each_age() -> None:
    """CS.L with CS.D. EFER as the guest sees it has no SVME; 7.3 names vCPU and general registers."""
    for name, wide in (("svm-5.10", False), ("svm-6.1", False), ("svm-7.3", True)):
        failure = failures_of(name)[0]
        cpu, control = parts(failure)
        assert failure.hardware_error == 0xFFFFFFFF
        assert cpu.segments["cs"] == Segment(0x18, 0, 0xFFFFFFFF, 0xE09B00)
        assert (cpu.registers["efer"], control.fields["save_efer"]) == (0x500, 0x1500)
        assert cpu.cpl == 0
        assert ("r15" in cpu.registers) == wide
        assert failure.source.vcpu == (0 if wide else None)
        assert control.fields["intercept_word4"] & 1  # VMRUN, which the CPU insists on
        assert control.fields["nested_ctl"] == 1


def test_a_dump_that_is_switched_off() -> None:
    """One line per failed entry is all that remains, and it says how to turn the dump on."""
    for name, count, vendor in (("vmx-6.1-off", 3, "vmx"), ("svm-6.1-off", 2, "svm"), ("svm-7.3-off", 2, "svm")):
        failures = failures_of(name)
        assert len(failures) == count
        for failure in failures:
            assert (failure.kind, failure.control, failure.host.vendor) == ("other", None, vendor)
            assert failure.host.events[0].kind == ("vmcs-dump-off" if vendor == "vmx" else "vmcb-dump-off")
            assert "switched off" in failure.damage[0]


def test_the_log_is_recognised_by_its_content() -> None:
    """Each fixture is evidence of its own, whoever asks; prose about VMX is not."""
    for path in FIXTURES.glob("*.dmesg"):
        assert asked(path.read_text(), "kernel_log")
        assert read(path.read_bytes()).failures
    assert not asked("the VMCS has a guest-state area and a host-state area; VMCB is AMD's", "kernel_log")


def test_provenance_names_every_fixture() -> None:
    """Kernel, module, bench and command of each log are on record."""
    provenance = json.loads((FIXTURES / "provenance.json").read_text())
    assert set(provenance) == {path.name for path in FIXTURES.glob("*.dmesg")}
    for entry in provenance.values():
        assert {"kernel", "version", "module", "module_args", "bench", "cpu", "date", "command"} <= set(entry)


@pytest.mark.parametrize("name", DUMPS)
@pytest.mark.parametrize(
    "prefix", ["", "Nov 22 22:05:29 host kernel: ", "2026-11-22T22:05:29+0000 host kernel: ", "<3>", "> "]
)
def test_what_carried_the_log_does_not_matter(name: str, prefix: str) -> None:
    """dmesg, syslog, the journal, a serial console, mail: the same dump."""
    data = (FIXTURES / f"{name}.dmesg").read_bytes().decode()
    carried = "\n".join(prefix + line for line in data.splitlines())
    for one, other in zip(failures_of(name), kernel_log.read(Text(carried)).failures, strict=True):
        assert parts(one) == parts(other)
    found = read(carried.encode()).failures
    assert [failure.control for failure in found] == [failure.control for failure in failures_of(name)]
