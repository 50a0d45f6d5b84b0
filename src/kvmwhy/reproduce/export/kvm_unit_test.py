"""In the form of a kvm-unit-test: arch/x86/, built for x86_64.

The guest is kvm-unit-tests' own, so that only what its environment can express is written: 64-bit code at
CPL 0 with one operand, or a jump, to where there is no memory. Where KVM still fails, the VM dies with
an internal error; where it does not, the test passes.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kvmwhy.arch.x86.instruction import MemoryOperand, decode_first
from kvmwhy.reproduce.export import ExportError, values
from kvmwhy.reproduce.guest_plan import Hole, Plan

_TEMPLATE: Final = r"""/* SPDX-License-Identifier: MIT */
/*
@ABOUT@
 *
 * Where KVM cannot do this, the VM stops with an internal error instead of the test's summary.
 */
#include "libcflat.h"
#include "desc.h"
#include "vm.h"
#include "vmalloc.h"

#define HOLE_GPA	@GPA@ul
#define HOLE_PAGE	(HOLE_GPA & ~0xffful)

int main(void)
{
	char *hole;

	setup_vm();
	hole = (char *)vmap(HOLE_PAGE, @SIZE@) + (HOLE_GPA & 0xffful);
@BODY@
	report_pass("KVM went on");
	return report_summary();
}
"""
_LETTERS: Final = {"rax": "a", "rbx": "b", "rcx": "c", "rdx": "d", "rsi": "S", "rdi": "D"}


def write(plan: Plan) -> str:
    """The whole file. Raises ExportError for a guest that kvm-unit-tests cannot express."""
    if plan.mode != "long64":
        raise ExportError(f"kvm-unit-tests runs 64-bit code; this guest is {plan.mode}")
    if plan.sregs.ss.dpl:
        raise ExportError("kvm-unit-tests runs at CPL 0; this guest does not")
    if len(plan.holes) != 1 or plan.holes[0].what not in {"the operand", "the code"}:
        raise ExportError("only an operand or a jump without memory can be written as a kvm-unit-test")
    hole = plan.holes[0]
    body = _jump() if hole.what == "the code" else _instruction(plan, hole)
    warm = "\t*(volatile char *)hole;	/* KVM had met the page */\n" if plan.warm else ""
    text = _TEMPLATE
    parts = {
        "ABOUT": values.comment(["Makes KVM fail as a report says. Made by kvmwhy.", "", *values.about(plan)], 74),
        "GPA": f"{hole.gpa:#x}",
        "SIZE": "2 * 4096",
        "BODY": warm + body,
    }
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text


def _jump() -> str:
    return '\tasm volatile("call *%0" : : "r"(hole) : "memory", "rax", "rcx", "rdx", "rsi", "rdi");'


def _instruction(plan: Plan, hole: Hole) -> str:
    decoded = decode_first(plan.insn, bitness=64, address=plan.rip)
    operand = next((m for m in decoded.memory if m.access != "none"), None) if decoded else None
    if operand is None or operand.rip_relative or operand.stack or operand.base is None:
        raise ExportError("the operand is not reached through a base register")
    registers: dict[str, int] = msgspec.structs.asdict(plan.regs)
    wanted = {operand.base, *([operand.index] if operand.index else ()), "rax", "rcx", "rdx"}
    if not wanted <= {*_LETTERS, *(f"r{n}" for n in range(8, 16))}:
        raise ExportError(f"a test in C cannot give {', '.join(sorted(wanted - set(_LETTERS)))} a value")
    pinned, inputs = [], []
    for name in sorted(wanted):
        value = _value(name, registers, operand, hole)
        if name in _LETTERS:
            inputs.append(f'"{_LETTERS[name]}"({value})')
        else:
            pinned.append(f'\tregister unsigned long {name} asm("{name}") = {value};')
            inputs.append(f'"r"({name})')
    code = ", ".join(f"0x{byte:02x}" for byte in plan.insn)
    rows = [*pinned, f'\tasm volatile(".byte {code}"', f"\t\t     : : {', '.join(inputs)}", '\t\t     : "memory");']
    return "\n".join(rows)


def _value(name: str, registers: dict[str, int], operand: MemoryOperand, hole: Hole) -> str:
    """As in the report; but the base register leads to the same byte by this guest's page tables."""
    if name != operand.base:
        return f"{registers[name]:#x}ul"
    return f"(unsigned long)hole + {registers[name] - hole.linear & (1 << 64) - 1:#x}ul"
