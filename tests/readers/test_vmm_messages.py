"""VMMs other than QEMU say one line; what it has is kept, and what they threw away is told."""

from __future__ import annotations

from typing import Any

import pytest

from kvmwhy.readers import read
from kvmwhy.record import Segment

KVM_RUN = {"kind": "run-error"}
INTERNAL = {"kind": "internal-error", "exit_reason": 17}
ENTRY = {"kind": "entry-failure", "exit_reason": 9}

# As the sources of these programs print them, in their releases of 2020 to 2026.
LINES: list[tuple[str | None, str, dict[str, Any]]] = [
    ("crosvm", "[2026-01-02T03:04:05.1+00:00 WARN  crosvm::crosvm::sys::linux::vcpu] unexpected vcpu exit: InternalError", INTERNAL),  # noqa: E501
    ("crosvm", "[ERROR:src/linux/vcpu.rs:99] vcpu hw run failure: 0x80000021", ENTRY | {"hardware_error": 0x80000021}),
    ("crosvm", "[ERROR:vcpu.rs:9] vcpu hit unknown error: Bad address (os error 14)", KVM_RUN | {"errno": "EFAULT"}),
    (
        "cloud-hypervisor",
        ("cloud-hypervisor: 217.1ms: <vcpu0> ERROR:vmm/src/cpu.rs:1069 -- VCPU generated error: VcpuRun(Failed to run vcpu:"  # noqa: E501
        " Unexpected exit reason on vcpu run: FailEntry(7, 2)\nCaused by:\n    Unexpected exit reason on vcpu run: FailEntry(7, 2))"),  # noqa: E501
        ENTRY | {"hardware_error": 7},
    ),
    (
        "cloud-hypervisor",
        "<vcpu1> ERROR:vmm/src/cpu.rs:1 -- VCPU generated error: VcpuRun(Unexpected exit reason on vcpu run: InternalError)",  # noqa: E501
        INTERNAL,
    ),
    (
        "firecracker",
        "2026-01-02T03:04:05.1 [anonymous-instance:fc_vcpu 0:ERROR:src/vmm/src/vstate/vcpu/mod.rs:475] Received KVM_EXIT_INTERNAL_ERROR signal",  # noqa: E501
        INTERNAL,
    ),
    (
        "firecracker",
        "[id:fc_vcpu 1:ERROR:src/vmm/src/vstate/vcpu/mod.rs:4] Received KVM_EXIT_FAIL_ENTRY signal: 2147483681 on cpu 3",  # noqa: E501
        ENTRY | {"hardware_error": 0x80000021},
    ),
    ("libkrun", "[ERROR krun] Received KVM_EXIT_INTERNAL_ERROR signal", INTERNAL),
    ("kvmtool", '  Error: KVM exit reason: 17 ("KVM_EXIT_INTERNAL_ERROR")', INTERNAL),
    ("kvmtool", '  Error: KVM exit reason: 8 ("KVM_EXIT_SHUTDOWN")', {"kind": "shutdown", "exit_reason": 8}),
    (
        "kvmtool",
        '  Error: KVM exit reason: 0 ("KVM_EXIT_UNKNOWN")\n  Error: KVM exit code: 51',
        {"kind": "unknown-exit", "exit_reason": 0, "hardware_reason": 51},
    ),
    ("uhyve", "thread '<unnamed>' panicked at src/linux/x86_64/kvm_cpu.rs:601:25:\nnot implemented: FailEntry(0, 2)", ENTRY | {"hardware_error": 0}),  # noqa: E501
    (
        "uhyve",
        'CPU 0 crashed with IOError(Custom { kind: Other, error: "VcpuExitFailEntry { hardware_entry_failure_reason: 0, cpu: 0 }" })',  # noqa: E501
        ENTRY | {"hardware_error": 0},
    ),
    ("dosemu2", "ERROR: KVM_EXIT_FAIL_ENTRY: hardware_entry_failure_reason = 0x80000021", ENTRY | {"hardware_error": 0x80000021}),  # noqa: E501
    (None, "KVM_EXIT_INTERNAL_ERROR: suberror = 0x1", INTERNAL | {"suberror": 1}),
    (None, "Internal error: suberror = 0x3", INTERNAL | {"suberror": 3}),
    (None, "INTERNAL_ERROR: 2", INTERNAL | {"suberror": 2}),
    (None, "vm: KVM_RUN failed: Invalid argument", KVM_RUN | {"errno": "EINVAL"}),
    ("qemu", "kvm: vm entry failed with error 0x80000021", ENTRY | {"hardware_error": 0x80000021}),
    ("qemu", "qemu-system-x86_64: failed to initialize KVM: Device or resource busy", {"kind": "setup-refused", "errno": "EBUSY"}),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize(("vmm", "line", "fields"), LINES)
def test_a_line_is_read(vmm: str | None, line: str, fields: dict[str, Any]) -> None:
    """One failure, with the VMM's name, and each number that the line has."""
    (failure,) = read(f"booting\n{line}\nbye\n".encode()).failures
    assert {name: getattr(failure, name) for name in fields} == fields
    assert failure.source.vmm == vmm
    assert failure.source.line in {2, 3}
    if failure.kind == "internal-error":
        assert "kvmwhy attach PID" in " ".join(failure.host.facts)


@pytest.mark.parametrize(
    "line",
    [
        "+	case KVM_EXIT_INTERNAL_ERROR:",
        '		printf("KVM_EXIT_INTERNAL_ERROR: suberror = 0x%x", x);',
        "#define KVM_EXIT_INTERNAL_ERROR   17",
        "VcpuExit::InternalError => {",
        "ioctl(12, KVM_RUN, 0) = -1 EFAULT (Bad address)",
        "KVM exits to userspace with KVM_EXIT_INTERNAL_ERROR",
        "an internal error occurred",
    ],
)
def test_sources_traces_and_prose_are_no_failures(line: str) -> None:
    """A patch in a mail mentions the exit; nothing failed."""
    assert read(f"hello\n{line}\nbye\n".encode()).failures == ()


KVMTOOL = """\
  Error: KVM exit reason: 17 ("KVM_EXIT_INTERNAL_ERROR")

 Registers:
 ----------
 rip: 000000000000e05b   rsp: 0000000000006f10 flags: 0000000000000046
 rax: 0000000000000000   rbx: 0000000000000001   rcx: 0000000000000002
 rdx: 0000000000000600   rsi: 0000000000000000   rdi: 00000000000000a8
 rbp: 0000000000000000    r8: 0000000000000000    r9: 0000000000000000
 r10: 0000000000000000   r11: 0000000000000000   r12: 0000000000000000
 r13: 0000000000000000   r14: 0000000000000000   r15: 00000000000000ff
 cr0: 0000000060000010   cr2: 0000000000000000   cr3: 0000000000000000
 cr4: 0000000000000000   cr8: 0000000000000000

 Segment registers:
 ------------------
 register  selector  base              limit     type  p dpl db s l g avl
 cs        f000      00000000000f0000  0000ffff  1b    1 0   0  1 0 0 0
 ss        1000      0000000000010000  0000ffff  03    1 0   0  1 0 0 0
 gdt                 0000000000000000  0000ffff

 Code:
 -----
2e 66 <83> 3e c8 61 00

"""


def test_kvmtools_registers() -> None:
    """Registers, segments and code behind the line are the failure's."""
    (failure,) = read(KVMTOOL.encode()).failures
    assert failure.cpu
    registers = failure.cpu.registers
    assert (registers["rip"], registers["rsp"], registers["rflags"], registers["r15"]) == (0xE05B, 0x6F10, 0x46, 0xFF)
    assert registers["cr0"] == 0x60000010
    assert failure.cpu.segments["cs"] == Segment(0xF000, 0xF0000, 0xFFFF, 0x9B00)
    assert failure.code
    assert failure.code.at_rip() == bytes.fromhex("833ec86100")
    assert failure.host.facts == ()


RUST = """\
Unexpected exit reason on vcpu run: InternalError
kvm_regs { rax: 0, rbx: 3489660928, rcx: 0, rdx: 0, rsi: 0, rdi: 0, rsp: 0, rbp: 0, r8: 0, r9: 0, r10: 0, r11: 0,\
 r12: 0, r13: 0, r14: 0, r15: 18446744073709551615, rip: 32902, rflags: 2 }
kvm_sregs { cs: kvm_segment { base: 0, limit: 4294967295, selector: 8, type_: 11, present: 1, dpl: 0, db: 0, s: 1, l: 1,\
 g: 1, avl: 0, unusable: 0, padding: 0 }, gdt: kvm_dtable { base: 4096, limit: 31, padding: [0, 0, 0] }, cr0: 2147483649,\
 cr2: 0, cr3: 36864, cr4: 32, cr8: 0, efer: 1280, apic_base: 4276095232, interrupt_bitmap: [0, 0, 0, 0] }
"""  # noqa: E501


def test_the_debug_form_of_rusts_structs() -> None:
    """Decimal numbers, as ``{:?}`` of kvm-bindings prints them."""
    (failure,) = read(RUST.encode()).failures
    assert failure.cpu
    assert failure.cpu.registers["rbx"] == 0xD0000000
    assert (failure.cpu.registers["rip"], failure.cpu.registers["efer"]) == (0x8086, 0x500)
    assert failure.cpu.segments["cs"] == Segment(8, 0, 0xFFFFFFFF, 0xA09B00)
    assert failure.cpu.segments["gdt"] == Segment(0, 0x1000, 0x1F, 0)


def test_the_ring_buffer_of_illumos() -> None:
    """RIP and eight bytes of each emulation that failed, thread by thread."""
    text = (
        "ffffff2e1f62aca0 11807236249037238   8 ffffff2ca17a5b60 efail-0 fffffffff81e6b59\n"
        "ffffff2e1f62acc0 11807236249037355   8 ffffff2ca17a5b60 efail-1 fffff80001516ed3\n"
        "ffffff2e1f62acc0 11807236249037400   9 ffffff2ca17a0000 put                    8\n"
        "ffffff2e1f62ace0 11807236249037454   8 ffffff2ca17a5b60 efail-2 e70f660804e70f66\n"
        "ffffff2e1f62ace0 11807236249037454   8 ffffff2ca17a5b60 efail-2 e70f660804e70f66\n"
    )
    (failure,) = read(text.encode()).failures
    assert failure.emulation
    assert (failure.emulation.rip, failure.emulation.insn.hex()) == (0xFFFFF80001516ED3, "660fe70408660fe7")
    assert (failure.suberror, failure.source.line, failure.host.vendor) == (1, 2, "vmx")
