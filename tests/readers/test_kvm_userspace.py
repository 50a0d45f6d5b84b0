"""What kvm-userspace and qemu-kvm printed from 2006 to 2012, by the format strings of libkvm.c and qemu-kvm.c."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.readers import read
from kvmwhy.record import Failure

_SEGMENT = "(00041430/0000ffff p 1 dpl 3 db 0 s 1 type 3 l 0 g 0 avl 0)"
DUMP = f"""\
rax 0000000000000469 rbx 0000000000800001 rcx 0000000000004300 rdx 0000000000000000
rsi 000000000005961d rdi 000000000005961c rsp 00000000fffaa9cc rbp 000000000000200c
r8  0000000000000000 r9  0000000000000000 r10 0000000000000000 r11 0000000000000000
r12 0000000000000000 r13 0000000000000000 r14 0000000000000000 r15 0000000000000000
rip 000000000000b04b rflags 00033006
cs 4143 {_SEGMENT}
ds 4004 {_SEGMENT}
es 4004 {_SEGMENT}
ss 0000 {_SEGMENT}
fs 3002 {_SEGMENT}
gs 0000 {_SEGMENT}
tr 0000 (7d850000/00002088 p 1 dpl 0 db 0 s 0 type b l 0 g 0 avl 0)
ldt 0000 (00000000/0000ffff p 1 dpl 0 db 0 s 0 type 2 l 0 g 0 avl 0)
gdt 40920/47
idt 0/ffff
cr0 60000010 cr2 0 cr3 0 cr4 0 cr8 0 efer 0
"""


def one(text: str) -> Failure:
    (failure,) = read(text.encode()).failures
    return failure


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("exception 13 (33)\n", {"kind": "exception-exit", "exception": 13, "exception_error_code": 0x33}),
        ("unhandled vm exit: 0xb\n", {"kind": "other", "exit_reason": 11, "hardware_reason": None}),
        ("unhandled vm exit: 0x21 vcpu_id 1\n", {"kind": "unknown-exit", "hardware_reason": 0x21, "exit_reason": 0}),
        ("unhandled vm exit:  0x21\n", {"kind": "unknown-exit", "hardware_reason": 0x21}),  # of 2006: two spaces
        ("unhandled vm exit: 0x80000021 vcpu_id 0\n", {"kind": "entry-failure", "hardware_error": 0x80000021}),
        ("kvm_run: failed entry, reason 7\n", {"kind": "entry-failure", "hardware_error": 7}),
        ("kvm: vm entry failed with error 0x80000021\n", {"kind": "entry-failure", "hardware_error": 0x80000021}),
        ("kvm_run: Bad address\n", {"kind": "run-error", "errno": "EFAULT"}),
    ],
)
@pytest.mark.parametrize("behind", ["", "kvm_run returned -8\n"])
def test_an_announcement_and_its_dump_are_one_failure(line: str, fields: dict[str, object], behind: str) -> None:
    """Also where QEMU says behind it what its own function returned, which is no errno of KVM_RUN."""
    failure = one(line + DUMP + behind)
    assert {name: getattr(failure, name) for name in fields} == fields
    assert failure.errno == fields.get("errno")
    assert failure.arch == "x86"
    assert failure.cpu is not None
    assert failure.cpu.registers["rip"] == 0xB04B
    assert failure.cpu.segments["cs"].selector == 0x4143


def test_the_vcpu_is_named() -> None:
    """KVM_EXIT_UNKNOWN prints it."""
    assert one("unhandled vm exit: 0x21 vcpu_id 1\n" + DUMP).source.vcpu == 1


def test_only_the_low_half_of_the_reason_was_printed() -> None:
    """65535 is all that ``% 0xffff`` left of SVM's 0xffffffff: said, not guessed."""
    failure = one("kvm_run: failed entry, reason 65535\nkvm_run returned -8\n")
    assert failure.hardware_error == 0xFFFF
    assert "16 bits" in failure.damage[0]


def test_code_without_an_arrow_begins_at_rip() -> None:
    """kvm_show_code of 2007 printed thirty bytes from RIP on; later, fifty with an arrow."""
    code = one("exception 13 (0)\n" + DUMP + "code: 0f 09 66" + " 90" * 27 + "\n").code
    assert code is not None
    assert code.at_rip().startswith(b"\x0f\x09\x66")
    code = one("exception 13 (0)\n" + DUMP + "code:" + " 90" * 20 + " --> 0f 09" + " 90" * 28 + "\n").code
    assert code is not None
    assert code.at_rip().startswith(b"\x0f\x09\x90")


def test_an_exception_of_another_program_is_none_of_these() -> None:
    """Without a register dump below it, the line may be anybody's."""
    assert read(b"exception 13 (33)\nat main.c:12\n").failures == ()


@given(st.integers(0, 15), st.integers(3, 10))
def test_any_few_lines_of_the_dump(first: int, count: int) -> None:
    """What is left of a dump is read, and what is missing is named."""
    lines = DUMP.splitlines(keepends=True)[first : first + count]
    for failure in read("".join(lines).encode()).failures:
        assert failure.damage
        whole = one("exception 13 (0)\n" + DUMP).cpu
        assert whole is not None
        assert failure.cpu is not None
        assert failure.cpu.registers.items() <= whole.registers.items()
