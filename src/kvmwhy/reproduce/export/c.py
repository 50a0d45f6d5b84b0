"""One C file that needs nothing but <linux/kvm.h> and a libc."""

from __future__ import annotations

from typing import Final

from kvmwhy.reproduce.export import values
from kvmwhy.reproduce.export.ask import ask
from kvmwhy.reproduce.guest_plan import Plan

_TEMPLATE: Final = r"""// SPDX-License-Identifier: MIT
/*
@ABOUT@
 *
 *	cc -O2 -Wall -Wextra -o reproduce reproduce.c && ./reproduce
 *
 * Exit status: 0 the failure shows, 1 it does not, 2 it cannot be run here.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/kvm.h>

#ifndef KVM_CAP_EXIT_ON_EMULATION_FAILURE
#define KVM_CAP_EXIT_ON_EMULATION_FAILURE 204
#endif

enum { CANNOT = 2, MAX_EXITS = 64, SECONDS = 2, MAX_CPUID = 256 };

/* What the report shows. */
static const uint32_t expected_exit = @EXIT@, expected_suberror = @SUBERROR@;
static const uint64_t expected_rip = @RIP@;
@INSN@
static const struct { uint64_t gpa, size; uint32_t flags; } slots[] = {
@SLOTS@
};
static uint8_t *memory[sizeof(slots) / sizeof(slots[0])];

@CONTENTS@
static const struct { uint64_t gpa, size; const uint8_t *data; } contents[] = {
@CONTENT_LIST@
};

static const struct kvm_regs start = {
@REGS@
};
static struct kvm_sregs state = {
@SREGS@
};
@EXTRA@
static struct kvm_run *run;

@ASK@

static void on_alarm(int signal)
{
	(void)signal;
	if (run)
		run->immediate_exit = 1;
}

static void create_memory(int vm)
{
	for (uint32_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		struct kvm_userspace_memory_region region = {
			.slot = i, .flags = slots[i].flags, .guest_phys_addr = slots[i].gpa, .memory_size = slots[i].size,
		};

		memory[i] = mmap(NULL, slots[i].size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory[i] == MAP_FAILED)
			die("mmap");
		region.userspace_addr = (uintptr_t)memory[i];
		ask(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
		for (size_t n = 0; n < sizeof(contents) / sizeof(contents[0]); n++)
			if (contents[n].gpa >= slots[i].gpa && contents[n].gpa - slots[i].gpa < slots[i].size)
				memcpy(memory[i] + (contents[n].gpa - slots[i].gpa), contents[n].data, contents[n].size);
	}
}

/* Bits of CR4 and EFER that this host does not have are left out, but for those that matter. */
static void set_state(int vcpu)
{
	static const uint64_t weaker[] = { ~0ull, 0x3416b0, 0x41630 };
	struct kvm_sregs own;
	size_t n;

	ask(vcpu, KVM_GET_SREGS, &own, "KVM_GET_SREGS");
	state.apic_base = own.apic_base;
	own = state;
	for (n = 0; n < @ATTEMPTS@; n++) {
		state.cr4 = own.cr4 & weaker[n];
		if (n)
			state.efer = own.efer & 0xd01;
		if (!ioctl(vcpu, KVM_SET_SREGS, &state))
			return;
	}
	fprintf(stderr, "KVM_SET_SREGS: %s\n", strerror(errno));
	exit(errno == EINVAL ? 1 : CANNOT);
}

/* Reads of what is not memory get zeros. Whether the guest may go on. */
static int answer(void)
{
	if (run->exit_reason == KVM_EXIT_MMIO) {
		printf("MMIO %s of %u at %#llx\n", run->mmio.is_write ? "write" : "read", run->mmio.len,
			(unsigned long long)run->mmio.phys_addr);
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
		return 1;
	}
	if (run->exit_reason == KVM_EXIT_IO) {
		if (run->io.direction == KVM_EXIT_IO_IN)
			memset((uint8_t *)run + run->io.data_offset, 0, (size_t)run->io.size * run->io.count);
		return 1;
	}
	return 0;
}

static void set_up(int kvm, int vcpu)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));

	if (!cpuid)
		die("calloc");
	cpuid->nent = MAX_CPUID;
	ask(kvm, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
	ask(vcpu, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
	set_state(vcpu);
	if (@XSAVE@)
		for (uint32_t i = 0; i < cpuid->nent; i++) {
			const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
			struct kvm_xcrs xcrs = { .nr_xcrs = 1 };

			if (entry->function != 0xd || entry->index)
				continue;
			xcrs.xcrs[0].value = entry->eax & ((entry->eax & 0xe0) == 0xe0 ? 0xe7 : 7);
			ask(vcpu, KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS");
		}
	free(cpuid);
@SET_UP@}

static void print_record(void)
{
	uint32_t ndata = run->internal.ndata < 16 ? run->internal.ndata : 16;

	printf("exit reason %u\n", run->exit_reason);
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		printf("hardware entry failure reason %#llx\n",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
	if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR)
		return;
	printf("suberror %u, ndata %u\n", run->internal.suberror, run->internal.ndata);
	for (uint32_t i = 0; i < ndata; i++)
		printf("data[%u] 0x%016llx\n", i, (unsigned long long)run->internal.data[i]);
}

static int is_expected(int vcpu)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint64_t rip;

	if (run->exit_reason != expected_exit)
		return 0;
	if (expected_exit != KVM_EXIT_INTERNAL_ERROR)
		return @OTHER@;
	if (run->internal.suberror != expected_suberror)
		return 0;
	ask(vcpu, KVM_GET_REGS, &regs, "KVM_GET_REGS");
	ask(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	rip = sregs.cs.l && sregs.efer & 0x400 ? regs.rip : (uint32_t)(sregs.cs.base + regs.rip);
	if (rip != expected_rip)
		return 0;
@COMPARE@	return 1;
}

int main(void)
{
	const struct sigaction action = { .sa_handler = on_alarm };
	const struct itimerval timer = { .it_value = { .tv_sec = SECONDS } };
	uint64_t identity_map = 0xfffbc000;
	int kvm, vm, vcpu, expected;
	long size;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	vm = ask(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
@CAP204@	/* VMX keeps pages of its own below 4 GiB, for real mode. */
	if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0)
		ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0)
		ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	create_memory(vm);
	vcpu = ask(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	size = ask(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("mmap");
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	set_up(kvm, vcpu);
	for (int n = 0; n < MAX_EXITS; n++) {
		if (ioctl(vcpu, KVM_RUN, NULL) < 0) {
			printf("KVM_RUN: %s\n", errno == EINTR ? "no exit in time" : strerror(errno));
			return 1;
		}
		if (!answer())
			break;
	}
	print_record();
	expected = is_expected(vcpu);
	puts(expected ? "reproduced" : "not reproduced");
	return expected ? 0 : 1;
}
"""
_EXITS: Final = {
    "internal-error": "KVM_EXIT_INTERNAL_ERROR",
    "entry-failure": "KVM_EXIT_FAIL_ENTRY",
    "unknown-exit": "KVM_EXIT_UNKNOWN",
    "shutdown": "KVM_EXIT_SHUTDOWN",
    "exception-exit": "KVM_EXIT_EXCEPTION",
}
_COMPARE: Final = """\
	if (expected_insn_size && run->internal.ndata >= 3 && run->internal.data[0] & 1 &&
		memcmp((const uint8_t *)&run->internal.data[1] + 1, expected_insn, expected_insn_size))
		return 0;
"""
_CAP204: Final = """\
	{
		struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { 1 } };

		if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0)
			ask(vm, KVM_ENABLE_CAP, &cap, "KVM_ENABLE_CAP");
	}
"""
_FIRST: Final = """\
	/* A load from the hole, so that KVM has met the page. */
	ask(vcpu, KVM_SET_REGS, (void *)&first, "KVM_SET_REGS");
	ioctl(vcpu, KVM_RUN, NULL);
	answer();
	run->immediate_exit = 1;
	ioctl(vcpu, KVM_RUN, NULL);
	run->immediate_exit = 0;
	set_state(vcpu);
"""


def write(plan: Plan) -> str:
    """The whole program. It compiles with -Wall -Wextra -Werror."""
    expected, insn = plan.expected, values.expected_insn(plan)
    extra, set_up = [], ""
    if plan.first is not None:
        extra.append(f"static const struct kvm_regs first = {{\n{values.regs(plan.first)}\n}};")
        set_up += _FIRST
    set_up += '\task(vcpu, KVM_SET_REGS, (void *)&start, "KVM_SET_REGS");\n'
    if plan.events is not None:
        extra.append(f"static const struct kvm_vcpu_events events = {{\n{values.events(plan.events)}\n}};")
        set_up += '\task(vcpu, KVM_SET_VCPU_EVENTS, (void *)&events, "KVM_SET_VCPU_EVENTS");\n'
    arrays = "\n".join(
        f"static const uint8_t content_{n}[] = {{\n{values.byte_array(c.data)}\n}};"
        for n, c in enumerate(plan.contents)
    )
    listed = "\n".join(f"\t{{ {c.gpa:#x}, sizeof(content_{n}), content_{n} }}," for n, c in enumerate(plan.contents))
    shown = (
        f"static const uint8_t expected_insn[] = {{\n{values.byte_array(insn)}\n}};\n"
        "static const uint32_t expected_insn_size = sizeof(expected_insn);\n"
        if insn
        else ""
    )
    other = "1"
    if expected.kind == "entry-failure" and expected.hardware_error is not None:
        low = expected.hardware_error & 0xFFFF_FFFF
        other = f"(uint32_t)run->fail_entry.hardware_entry_failure_reason == {low:#x}"
    elif expected.kind == "exception-exit" and expected.exception is not None:
        other = f"run->ex.exception == {expected.exception}"
    parts = {
        "ASK": ask("CANNOT"),
        "ABOUT": values.comment(["Makes KVM fail as a report says. Made by kvmwhy.", "", *values.about(plan)]),
        "EXIT": _EXITS.get(expected.kind, "KVM_EXIT_INTERNAL_ERROR"),
        "SUBERROR": str(expected.suberror or 0),
        "RIP": f"{plan.rip:#x}",
        "INSN": shown,
        "SLOTS": "\n".join(
            f"\t{{ {m.gpa:#x}, {m.size:#x}, {'KVM_MEM_READONLY' if m.readonly else '0'} }}," for m in plan.memory
        ),
        "CONTENTS": arrays,
        "CONTENT_LIST": listed,
        "REGS": values.regs(plan.regs),
        "SREGS": values.sregs(plan.sregs),
        "EXTRA": "\n".join(extra),
        "ATTEMPTS": "1" if plan.exact else "sizeof(weaker) / sizeof(weaker[0])",
        "XSAVE": "1" if plan.xsave else "0",
        "SET_UP": set_up,
        "OTHER": other,
        "COMPARE": _COMPARE if insn else "",
        "CAP204": _CAP204 if plan.cap204 else "",
    }
    text = _TEMPLATE
    for name, part in parts.items():
        text = text.replace(f"@{name}@", part)
    return text
