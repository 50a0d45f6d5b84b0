"""What several readers tell of one failure is one record; what could be two failures stays two."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from kvmwhy.readers import Evidence, read
from kvmwhy.readers.correlate import combine
from kvmwhy.record import ControlBlock, Cpu, Emulation, Failure, Host, Source
from kvmwhy.report import report

QEMU = Failure(
    kind="internal-error", suberror=1, exit_reason=17, ndata=0, cpu=Cpu(registers={"rip": 0x8086, "cr0": 1}),
    source=Source(line=3, vmm="qemu"),
)  # fmt: skip
TRACED = Failure(
    kind="internal-error", exit_reason=17, emulation=Emulation(rip=0x8086, cs_base=0, insn=b"\xd9\x03"),
    source=Source(vcpu=2), host=Host(vendor="vmx"),
)  # fmt: skip


def of(failure: Failure, name: str, *more: Failure) -> Evidence:
    return Evidence((failure, *more), format=name)


def moved(failure: Failure, rip: int) -> Failure:
    return msgspec.structs.replace(failure, cpu=Cpu(registers={"rip": rip}))


def test_the_same_rip_ties() -> None:
    """Each says what the other does not."""
    (both,) = combine([of(QEMU, "QEMU log", moved(QEMU, 1)), of(TRACED, "trace")])[:1]
    assert both.cpu == QEMU.cpu
    assert both.emulation == TRACED.emulation
    assert (both.source.vcpu, both.source.line, both.source.vmm) == (2, 3, "qemu")
    assert both.host.vendor == "vmx"
    assert both.damage == ()


@pytest.mark.parametrize("turned", [False, True])
def test_registers_are_compared_as_wide_as_they_were_printed(turned: bool) -> None:
    """QEMU prints 32 bits outside of 64-bit code, the kernel always 64: one failure, in either order, with all bits."""
    narrow = msgspec.structs.replace(QEMU, cpu=Cpu(wide=False, registers={"rip": 0x8086, "rsp": 0x8123_4560}))
    wide = msgspec.structs.replace(
        TRACED, emulation=None, cpu=Cpu(registers={"rip": 0x1_0000_8086, "rsp": 0xFFFF_8000_8123_4560})
    )
    pieces = [of(narrow, "QEMU log"), of(wide, "kernel log")]
    (both,) = combine(pieces[::-1] if turned else pieces)
    assert both.cpu
    assert both.cpu.registers == {"rip": 0x1_0000_8086, "rsp": 0xFFFF_8000_8123_4560}
    other = msgspec.structs.replace(wide, cpu=Cpu(registers={"rip": 0x1_0000_8087}))
    assert len(combine([of(narrow, "QEMU log"), of(other, "kernel log")])) == 2


def test_another_rip_or_vcpu_stays_apart() -> None:
    """Nothing is put together that differs in anything."""
    assert len(combine([of(moved(QEMU, 5), "QEMU log", QEMU), of(moved(TRACED, 7), "kernel log")])) == 3
    first = msgspec.structs.replace(QEMU, source=Source(vcpu=0))
    assert len(combine([of(first, "QEMU log"), of(TRACED, "trace")])) == 2


def test_one_of_each_is_assumed_and_said() -> None:
    """A VMM's line and a kernel's dump, one of each: one record, which says that this is an assumption."""
    line = Failure(kind="entry-failure", hardware_error=0x80000021, exit_reason=9)
    dump = Failure(kind="entry-failure", control=ControlBlock("vmcs", {"a": 1}), cpu=Cpu(registers={"rip": 5}))
    (both,) = combine([of(line, "QEMU log"), of(dump, "kernel log")])
    assert both.control == dump.control
    assert both.hardware_error == 0x80000021
    assert "assumed" in both.damage[0]


def test_two_candidates_are_never_chosen_from() -> None:
    """Two vCPUs failed at the same RIP: the trace of one of them may be either's."""
    other = msgspec.structs.replace(QEMU, cpu=Cpu(registers={"rip": 0x8086, "cr0": 0}))
    assert len(combine([of(QEMU, "QEMU log", other), of(TRACED, "trace")])) == 3


def test_doubtful_registers_tie_nothing() -> None:
    """Registers that may be another vCPU's."""
    doubtful = msgspec.structs.replace(QEMU, cpu_shared=True)
    assert len(combine([of(doubtful, "QEMU log"), of(TRACED, "trace")])) == 2


def test_one_readers_failures_are_never_put_together() -> None:
    """It knows best how many there were."""
    assert combine([of(QEMU, "QEMU log", QEMU)]) == [QEMU, QEMU]


@pytest.mark.parametrize(
    "line",
    ["15268@1647341556.924605:kvm_run_exit cpu_index 3, reason 8\n", "kvm: vm entry failed with error 0x80000021\n"],
)
def test_a_line_that_two_readers_know_is_one_failure(line: str) -> None:
    """It is no assumption: what both have read stands in the same place."""
    for times in (1, 3):
        failures = read((line + "other words\n").encode() * times).failures
        assert len({failure.source.line for failure in failures}) == len(failures)
        assert not any("assumed" in remark for failure in failures for remark in failure.damage)


def test_far_apart_only_a_tie_counts() -> None:
    """One of each is not enough there; and what one reader saw twice is two failures, whoever read it with it."""
    bare = msgspec.structs.replace(TRACED, emulation=None)
    assert len(combine([of(QEMU, "QEMU log"), of(bare, "trace")])) == 1
    assert len(combine([of(QEMU, "QEMU log"), of(bare, "trace")], far_apart=True)) == 2
    assert len(combine([of(QEMU, "QEMU log"), of(TRACED, "trace")], far_apart=True)) == 1
    assert len(combine([of(QEMU, "QEMU log"), of(QEMU, "QEMU log + kernel log")])) == 2


@pytest.mark.parametrize("size", [1 << 10, 100 << 10, 3 << 20])
def test_a_dump_far_from_the_vmms_lines_is_of_the_same_failure(size: int) -> None:
    """In one file, at any distance: the kernel's VMCS has the RIP that QEMU's dump has."""
    capture = Path(__file__).parents[1] / "fixtures/truths-lab/vmx-6.1-dump_invalid_vmcs-1/smi-in-sti-shadow"
    kernel, vmm = ((capture / name).read_bytes() for name in ("dmesg.txt", "vmm.log"))
    other = b"lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam\n"
    for text in (kernel + other * (size // len(other)) + vmm, vmm + other * (size // len(other)) + kernel):
        answer = report([text], "all.log", made=datetime(2026, 1, 2, tzinfo=UTC))
        (failure,) = answer.failures
        assert failure.control is not None
        assert failure.hardware_error == 0x80000021
        assert failure.source.vmm == "qemu"
