"""In the form of a KVM selftest: tools/testing/selftests/kvm/x86/.

Uses what kvm_util.h and processor.h have had since 6.0: vm_create_barebones, __vm_vcpu_add,
vm_userspace_mem_region_add, addr_gpa2hva, vcpu_*_set, TEST_ASSERT. ``PAGE_SIZE``, ``TEST_ASSERT_EQ`` and
the exit-reason macro changed their names since, so they are not used.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.reproduce.export import values
from kvmwhy.reproduce.guest_plan import Plan

_TEMPLATE: Final = r"""// SPDX-License-Identifier: GPL-2.0-only
/*
@ABOUT@
 */
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"

#define MAX_EXITS	64

static const struct { uint64_t gpa, npages; uint32_t flags; } slots[] = {
@SLOTS@
};

@CONTENTS@
static const struct { uint64_t gpa, size; const uint8_t *data; } contents[] = {
@CONTENT_LIST@
};

static struct kvm_regs start = {
@REGS@
};

static struct kvm_sregs state = {
@SREGS@
};
@EXTRA@
static void load_guest(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	struct kvm_sregs own;
	int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++)
		vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, slots[i].gpa, i, slots[i].npages,
						slots[i].flags);
	for (i = 0; i < ARRAY_SIZE(contents); i++)
		memcpy(addr_gpa2hva(vm, contents[i].gpa), contents[i].data, contents[i].size);

	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	vcpu_sregs_get(vcpu, &own);
	state.apic_base = own.apic_base;
	vcpu_sregs_set(vcpu, &state);
@SET_UP@}

int main(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	struct kvm_run *run;
	struct kvm_vm *vm;
	int i;

	vm = vm_create_barebones();
@CAP204@	vcpu = __vm_vcpu_add(vm, 0);
	run = vcpu->run;
	load_guest(vm, vcpu);

	for (i = 0; i < MAX_EXITS; i++) {
		vcpu_run(vcpu);
		if (run->exit_reason == KVM_EXIT_MMIO)
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
		else if (run->exit_reason != KVM_EXIT_IO)
			break;
	}
	vcpu_regs_get(vcpu, &regs);

	TEST_ASSERT(run->exit_reason == @EXIT@,
			"Wanted exit reason %u, got %u (%s) at RIP 0x%llx", @EXIT@, run->exit_reason,
			exit_reason_str(run->exit_reason), (unsigned long long)regs.rip);
@ASSERTS@
	kvm_vm_free(vm);
	return 0;
}
"""
_INTERNAL: Final = """\
	TEST_ASSERT(run->internal.suberror == @SUBERROR@, "Wanted suberror @SUBERROR@, got %u", run->internal.suberror);
	TEST_ASSERT(regs.rip == @RIP@ull, "Wanted RIP @RIP@, got 0x%llx", (unsigned long long)regs.rip);
"""
_BYTES: Final = """\
	if (run->internal.ndata >= 3 && run->internal.data[0] & 1)
		TEST_ASSERT(!memcmp((uint8_t *)&run->internal.data[1] + 1, expected_insn, sizeof(expected_insn)),
				"Wrong instruction bytes");
"""
_EXITS: Final = {
    "entry-failure": "KVM_EXIT_FAIL_ENTRY",
    "unknown-exit": "KVM_EXIT_UNKNOWN",
    "shutdown": "KVM_EXIT_SHUTDOWN",
    "exception-exit": "KVM_EXIT_EXCEPTION",
}


def write(plan: Plan) -> str:
    """The whole file."""
    expected, insn = plan.expected, values.expected_insn(plan)
    extra, set_up, asserts = [], "", ""
    if plan.xsave:
        extra.append("static struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = 7 } } };")
        set_up += "\tvcpu_xcrs_set(vcpu, &xcrs);\n"
    if plan.first is not None:
        extra.append(f"static struct kvm_regs first = {{\n{values.regs(plan.first)}\n}};")
        set_up += "\t/* A load from the hole, so that KVM has met the page. */\n"
        set_up += "\tvcpu_regs_set(vcpu, &first);\n\tvcpu_run(vcpu);\n\tvcpu_run_complete_io(vcpu);\n"
        set_up += "\tvcpu_sregs_set(vcpu, &state);\n"
    set_up += "\tvcpu_regs_set(vcpu, &start);\n"
    if plan.events is not None:
        extra.append(f"static struct kvm_vcpu_events events = {{\n{values.events(plan.events)}\n}};")
        set_up += "\tvcpu_events_set(vcpu, &events);\n"
    if expected.kind == "internal-error":
        # RIP as KVM_GET_REGS has it: an offset into CS where the code is not 64-bit.
        offset = plan.rip if plan.mode == "long64" else plan.rip - plan.sregs.cs.base & 0xFFFF_FFFF
        asserts = _INTERNAL.replace("@SUBERROR@", str(expected.suberror or 0)).replace("@RIP@", f"{offset:#x}")
        if insn:
            asserts += _BYTES
            extra.append(f"static const uint8_t expected_insn[] = {{\n{values.byte_array(insn)}\n}};")
    slots = (f"\t{{ {m.gpa:#x}, {m.size >> 12}, {'KVM_MEM_READONLY' if m.readonly else '0'} }}," for m in plan.memory)
    cap = (
        "\tTEST_REQUIRE(kvm_has_cap(KVM_CAP_EXIT_ON_EMULATION_FAILURE));\n"
        "\tvm_enable_cap(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);\n"
    )
    parts = {
        "ABOUT": values.comment(["Makes KVM fail as a report says. Made by kvmwhy.", "", *values.about(plan)], 74),
        "SLOTS": "\n".join(slots),
        "CONTENTS": "\n".join(
            f"static const uint8_t content_{n}[] = {{\n{values.byte_array(c.data)}\n}};"
            for n, c in enumerate(plan.contents)
        ),
        "CONTENT_LIST": "\n".join(
            f"\t{{ {c.gpa:#x}, sizeof(content_{n}), content_{n} }}," for n, c in enumerate(plan.contents)
        ),
        "REGS": values.regs(plan.regs),
        "SREGS": values.sregs(plan.sregs),
        "EXTRA": "".join(f"\n{text}\n" for text in extra),
        "SET_UP": set_up,
        "CAP204": cap if plan.cap204 else "",
        "EXIT": _EXITS.get(expected.kind, "KVM_EXIT_INTERNAL_ERROR"),
        "ASSERTS": asserts,
    }
    text = _TEMPLATE
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text
