"""The C of a fault's test: what is common to the program that stands alone and to the selftest, and both."""

from __future__ import annotations

from typing import Final

# Common to both: the guests, how each is laid out in memory, and how its end is judged.
GUESTS: Final = r"""
enum { REAL16, PROT16, LONG64 };
enum { DATA, STACK, CODE };		/* what has no memory; or code that CS has a base for */
enum { ANY, BMI1, LZCNT, AMD, INTEL };	/* what the host's CPU must be or have */
enum { RIGHT, GIVES_UP, WRONG, ENDLESS };

#define RAM_SIZE	0x10000
#define GDT		0x2000
#define PML4		0x4000
#define PDPT		0x5000
#define PD		0x6000
#define PT		0x7000
#define CONTROL		0x8000		/* the page of the operand, where it is in RAM */
#define LOW_HOLE	0xd0000		/* where it is not */
#define HIGH_HOLE	0xd0000000u
#define LINEAR		0x400000	/* of that page in 64-bit mode */
#define FIELD		0x800		/* of the operand, in the page */
#define WINDOW		64		/* what is compared, before and behind FIELD */
#define CODE_PAGE	0x1000		/* full of HLT, but for the instruction */
#define CODE_BASE	0x900		/* of CS outside 64-bit mode: IP is FIELD */
#define CODE_AT		0x1100		/* linear address of the instruction */
#define MAX_EXITS	16
#define SECONDS		2

struct patch {
	int at;				/* counted from FIELD */
	uint32_t size;
	uint8_t bytes[32];
};

struct guest {
	const char *text;
	int mode, place, needs, wide_stack, loose;
	uint32_t code_size;
	uint8_t code[16];
	uint64_t flags;			/* those that are compared */
	struct kvm_regs start, end;	/* RIP as an offset from CS; end is what the manuals say */
	struct patch before, after;	/* of the operand's page */
};

static const struct guest guests[] = {
@GUESTS@
};

static const struct { const char *name; size_t at; } names[] = {
#define REG(name) { #name, offsetof(struct kvm_regs, name) }
	REG(rax), REG(rbx), REG(rcx), REG(rdx), REG(rsi), REG(rdi), REG(rsp), REG(rbp), REG(rip),
};

static uint8_t device[4096];		/* of the guest that has no memory there */

static uint64_t hole_of(const struct guest *g)
{
	return g->mode == LONG64 ? HIGH_HOLE : LOW_HOLE;
}

static void fill_page(uint8_t *page, const struct patch *patch)
{
	for (int i = 0; i < 4096; i++)
		page[i] = 0x80 | (i & 0x7f);
	memcpy(page + FIELD + patch->at, patch->bytes, patch->size);
}

static struct kvm_segment segment(uint64_t base, uint16_t selector, int type)
{
	struct kvm_segment s = {
		.base = base, .limit = 0xffff, .selector = selector, .type = type, .present = 1, .s = 1,
	};

	return s;
}

static struct kvm_segment flat(uint16_t selector, int type, int l)
{
	struct kvm_segment s = segment(0, selector, type);

	s.limit = 0xffffffff;
	s.g = 1;
	s.l = l;
	s.db = !l;
	return s;
}

/* The guest in its RAM; with its operand in RAM as well (control), or where there is no memory. */
static void lay_out(const struct guest *g, int control, uint8_t *ram, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
	static const uint64_t descriptors[] = { 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	const uint64_t operand = g->place == CODE || control ? CONTROL : hole_of(g);
	const uint64_t base = g->mode == LONG64 ? 0 : operand;
	uint64_t cs = CODE_BASE;

	memset(ram, 0, RAM_SIZE);
	memset(ram + CODE_PAGE, 0xf4, 4096);
	memcpy(ram + CODE_AT, g->code, g->code_size);
	fill_page(device, &g->before);
	memcpy(ram + CONTROL, device, sizeof(device));
	*regs = g->start;
	regs->rflags |= 2;
	if (g->place == CODE) {		/* the page that must stay as it is: where CS had no base */
		memcpy(ram, device, sizeof(device));
		if (control) {
			cs = 0;
			regs->rip += CODE_BASE;
		}
	}
	memcpy(ram + GDT, descriptors, sizeof(descriptors));
	sregs->gdt.base = GDT;
	sregs->gdt.limit = sizeof(descriptors) - 1;
	sregs->idt.base = sregs->idt.limit = 0;
	sregs->cr0 = 0x30;
	sregs->cr4 = 0x600;
	sregs->efer = 0;
	sregs->tr.selector = 0x18;
	if (g->mode == LONG64) {
		*(uint64_t *)(ram + PML4) = PDPT | 7;
		*(uint64_t *)(ram + PDPT) = PD | 7;
		*(uint64_t *)(ram + PD) = 0x87;
		*(uint64_t *)(ram + PD + (LINEAR >> 21) * 8) = PT | 7;
		*(uint64_t *)(ram + PT) = operand | 7;
		sregs->cr3 = PML4;
		sregs->cr0 = 0x80000031;
		sregs->cr4 = 0x620;
		sregs->efer = 0x500;
		sregs->cs = flat(0x08, 11, 1);
		sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat(0x10, 3, 0);
		sregs->tr.type = 11;
		sregs->tr.limit = 0x67;
		return;
	}
	if (g->mode == PROT16)
		sregs->cr0 = 0x31;
	sregs->cs = segment(cs, g->mode == PROT16 ? 0x08 : CODE_BASE >> 4, 11);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = segment(g->place == DATA ? base : 0, 0x10, 3);
	sregs->ss = segment(g->place == STACK ? base : 0, 0x10, 3);
	sregs->ss.db = g->wide_stack;
}

/* An access of the guest's to where there is no memory: the device is a page of RAM to it. */
static void answer(const struct guest *g, struct kvm_run *run)
{
	uint64_t at = run->mmio.phys_addr - hole_of(g);

	if (at > sizeof(device) - run->mmio.len)
		memset(run->mmio.data, 0, 8);
	else if (run->mmio.is_write)
		memcpy(device + at, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, device + at, run->mmio.len);
}

static void print_bytes(const char *name, const uint8_t *bytes, int from, int to)
{
	printf("\t\t%s", name);
	for (int i = from; i < to; i++)
		printf(" %02x", bytes[i]);
	puts("");
}

/* What the guest left behind, against what it should have. */
static int judge_registers(const struct guest *g, int control, const struct kvm_regs *regs)
{
	int result = RIGHT;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint64_t is = *(const uint64_t *)((const char *)regs + names[i].at);
		uint64_t should = *(const uint64_t *)((const char *)&g->end + names[i].at);

		if (!strcmp(names[i].name, "rip") && g->place == CODE && control)
			should += CODE_BASE;
		if (is == should)
			continue;
		printf("\t\t%s is %#llx, should be %#llx\n", names[i].name, (unsigned long long)is,
			(unsigned long long)should);
		result = WRONG;
	}
	if ((regs->rflags ^ g->end.rflags) & g->flags) {
		printf("\t\trflags & %#llx is %#llx, should be %#llx\n", (unsigned long long)g->flags,
			(unsigned long long)(regs->rflags & g->flags), (unsigned long long)g->end.rflags);
		result = WRONG;
	}
	return result;
}

static int judge_memory(const struct guest *g, int control, const uint8_t *ram)
{
	const uint8_t *page = g->place == CODE ? ram : control ? ram + CONTROL : device;
	int first = WINDOW, last = -WINDOW;
	uint8_t wanted[4096];

	if (g->loose)
		return RIGHT;
	fill_page(wanted, &g->before);
	memcpy(wanted + FIELD + g->after.at, g->after.bytes, g->after.size);
	for (int i = -WINDOW; i < WINDOW; i++)
		if (page[FIELD + i] != wanted[FIELD + i]) {
			first = i < first ? i : first;
			last = i;
		}
	if (first <= last) {
		printf("\t\tmemory at %+d:\n", first);
		print_bytes("is       ", page, FIELD + first, FIELD + last + 1);
		print_bytes("should be", wanted, FIELD + first, FIELD + last + 1);
	}
	return first <= last ? WRONG : RIGHT;
}

static int judge(const struct guest *g, int control, const uint8_t *ram, const struct kvm_regs *regs)
{
	int registers = judge_registers(g, control, regs), memory = judge_memory(g, control, ram);

	return registers == WRONG ? WRONG : memory;
}

static int has_bit(uint32_t leaf, int word, int bit)
{
	uint32_t words[4];

	__asm__ volatile("cpuid" : "=a"(words[0]), "=b"(words[1]), "=c"(words[2]), "=d"(words[3]) : "a"(leaf), "c"(0));
	return words[word] >> bit & 1;
}

static int is_intel(void)
{
	uint32_t a = 0, b, c, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	return b == 0x756e6547;		/* "Genu" */
}

/* BMI1 and LZCNT are in CPUID(7).EBX and CPUID(80000001).ECX. */
static int is_runnable(const struct guest *g)
{
	switch (g->needs) {
	case BMI1:
		return has_bit(7, 1, 3);
	case LZCNT:
		return has_bit(0x80000001, 2, 5);
	case INTEL:
		return is_intel();
	case AMD:
		return !is_intel();
	}
	return 1;
}
"""

ALONE: Final = r"""// SPDX-License-Identifier: MIT
/*
@ABOUT@
 *
 *	cc -O2 -Wall -Wextra -o test @PROGRAM@.c && ./test
 *
 * Exit status: 0 KVM is right, or says that it cannot; 1 KVM is wrong; 2 nothing can be told here, since the
 * control failed as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/kvm.h>
@COMMON@
static struct kvm_run *run;

@ASK@

static void on_alarm(int signal)
{
	(void)signal;
	run->immediate_exit = 1;
}

static int go(const struct guest *g, int control, int vcpu, const uint8_t *ram)
{
	struct kvm_regs regs;

	for (int n = 0; n < MAX_EXITS; n++) {
		if (ioctl(vcpu, KVM_RUN, NULL) < 0) {
			if (errno != EINTR) {
				printf("\t\tKVM_RUN: %s\n", strerror(errno));
				return WRONG;
			}
			printf("\t\tKVM_RUN: no exit in %d s\n", SECONDS);
			if (g->place == CODE)
				judge_memory(g, control, ram);
			return ENDLESS;
		}
		if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
			printf("\t\tinternal error, suberror %u\n", run->internal.suberror);
			return GIVES_UP;
		}
		if (run->exit_reason == KVM_EXIT_HLT) {
			ask(vcpu, KVM_GET_REGS, &regs, "KVM_GET_REGS");
			return judge(g, control, ram, &regs);
		}
		if (run->exit_reason != KVM_EXIT_MMIO) {
			printf("\t\texit reason %u\n", run->exit_reason);
			return WRONG;
		}
		printf("\t\tMMIO %s of %u at %+lld\n", run->mmio.is_write ? "write" : "read", run->mmio.len,
			(long long)(run->mmio.phys_addr - hole_of(g) - FIELD));
		answer(g, run);
	}
	puts("\t\tthe same again and again");
	return ENDLESS;
}

static int run_guest(const struct guest *g, int control)
{
	const struct itimerval limit = { .it_value = { .tv_sec = SECONDS } }, never = { 0 };
	struct kvm_userspace_memory_region region = { .memory_size = RAM_SIZE };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));
	uint64_t identity_map = 0xfffbc000;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int kvm, vm, vcpu, size, result;
	uint8_t *ram;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0 || !cpuid)
		die("/dev/kvm");
	vm = ask(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	/* VMX keeps pages of its own below 4 GiB, for real mode. */
	if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0)
		ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0)
		ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		die("mmap");
	region.userspace_addr = (uintptr_t)ram;
	ask(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
	vcpu = ask(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	size = ask(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("mmap");
	cpuid->nent = 256;
	ask(kvm, KVM_GET_SUPPORTED_CPUID, cpuid, "KVM_GET_SUPPORTED_CPUID");
	ask(vcpu, KVM_SET_CPUID2, cpuid, "KVM_SET_CPUID2");
	ask(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	lay_out(g, control, ram, &regs, &sregs);
	ask(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	ask(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
	setitimer(ITIMER_REAL, &limit, NULL);
	result = go(g, control, vcpu, ram);
	setitimer(ITIMER_REAL, &never, NULL);
	munmap(run, size);
	munmap(ram, RAM_SIZE);
	close(vcpu);
	close(vm);
	close(kvm);
	free(cpuid);
	return result;
}

int main(void)
{
	static const char *const words[] = { "right", "gives up", "WRONG", "NEVER ENDS" };
	const struct sigaction action = { .sa_handler = on_alarm };
	int wrong = 0, told = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGALRM, &action, NULL);
	for (size_t i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
		const struct guest *g = guests + i;
		int control, result;

		if (!is_runnable(g)) {
			printf("%s: not on this CPU\n", g->text);
			continue;
		}
		printf("%s\n\tcontrol:\n", g->text);
		control = run_guest(g, 1);
		printf("\tcontrol: %s\n\tby KVM:\n", words[control]);
		result = run_guest(g, 0);
		printf("\tby KVM: %s\n", words[result]);
		if (control != RIGHT)
			continue;
		told++;
		wrong += result > GIVES_UP;
	}
	if (!told)
		puts("nothing can be told: each control failed too, or could not be run (does KVM emulate the whole guest?)");
	else
		printf("%d wrong of %d that the CPU does right\n", wrong, told);
	return wrong ? 1 : told ? 0 : 2;
}
"""

SELFTEST: Final = r"""// SPDX-License-Identifier: GPL-2.0-only
/*
@ABOUT@
 *
 * It passes where KVM is right, or says that it cannot.
 */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
@COMMON@
static struct kvm_run *run;

static void on_alarm(int signal)
{
	(void)signal;
	run->immediate_exit = 1;
}

static int go(const struct guest *g, int control, struct kvm_vcpu *vcpu, const uint8_t *ram)
{
	struct kvm_regs regs;

	for (int n = 0; n < MAX_EXITS; n++) {
		if (__vcpu_run(vcpu)) {
			if (errno == EINTR && g->place == CODE)
				judge_memory(g, control, ram);
			return errno == EINTR ? ENDLESS : WRONG;
		}
		if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
			return GIVES_UP;
		if (run->exit_reason == KVM_EXIT_HLT) {
			vcpu_regs_get(vcpu, &regs);
			return judge(g, control, ram, &regs);
		}
		if (run->exit_reason != KVM_EXIT_MMIO) {
			pr_info("\t\texit reason %u (%s)\n", run->exit_reason, exit_reason_str(run->exit_reason));
			return WRONG;
		}
		answer(g, run);
	}
	return ENDLESS;
}

static int run_guest(const struct guest *g, int control)
{
	const struct itimerval limit = { .it_value = { .tv_sec = SECONDS } }, never = { };
	struct kvm_sregs sregs;
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	struct kvm_vm *vm;
	uint8_t *ram;
	int result;

	vm = vm_create_barebones();
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, RAM_SIZE / 4096, 0);
	ram = addr_gpa2hva(vm, 0);
	vcpu = __vm_vcpu_add(vm, 0);
	run = vcpu->run;
	vcpu_init_cpuid(vcpu, kvm_get_supported_cpuid());
	vcpu_sregs_get(vcpu, &sregs);
	lay_out(g, control, ram, &regs, &sregs);
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_set(vcpu, &regs);
	setitimer(ITIMER_REAL, &limit, NULL);
	result = go(g, control, vcpu, ram);
	setitimer(ITIMER_REAL, &never, NULL);
	kvm_vm_free(vm);
	return result;
}

int main(void)
{
	static const char *const words[] = { "right", "gives up", "WRONG", "NEVER ENDS" };
	const struct sigaction action = { .sa_handler = on_alarm };
	int wrong = 0, told = 0, i;

	sigaction(SIGALRM, &action, NULL);
	for (i = 0; i < ARRAY_SIZE(guests); i++) {
		const struct guest *g = guests + i;
		int control, result;

		if (!is_runnable(g))
			continue;
		control = run_guest(g, 1);
		result = run_guest(g, 0);
		pr_info("%s: control %s, by KVM %s\n", g->text, words[control], words[result]);
		if (control != RIGHT)
			continue;
		told++;
		wrong += result > GIVES_UP;
	}
	TEST_REQUIRE(told);
	TEST_ASSERT(!wrong, "%d of %d instructions are carried out wrongly", wrong, told);
	return 0;
}
"""

RISCV64: Final = r"""// SPDX-License-Identifier: MIT
/*
@ABOUT@
 *
 *	cc -O2 -Wall -Wextra -o test @PROGRAM@.c && ./test
 *
 * Exit status: 0 each store is KVM_EXIT_MMIO; 1 one is not; 2 it cannot be run here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>

#define RAM	0x80000000ull
#define HOLE	0x10000000ull		/* no memory */
#define VALUE	0x1122334455667788ull

#define CORE(field) (KVM_REG_RISCV | KVM_REG_SIZE_U64 | KVM_REG_RISCV_CORE | KVM_REG_RISCV_CORE_REG(field))

static const struct { const char *text; uint16_t code; uint32_t size; } stores[] = {
@STORES@
};

@ASK@

static void set_register(int vcpu, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	ask(vcpu, KVM_SET_ONE_REG, &reg, "KVM_SET_ONE_REG");
}

static int is_carried_out(uint16_t code, uint32_t size)
{
	struct kvm_userspace_memory_region region = { .guest_phys_addr = RAM, .memory_size = 4096 };
	const uint64_t value = VALUE;
	struct kvm_run *run;
	int kvm, vm, vcpu;
	uint8_t *ram;
	long length;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	vm = ask(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	ram = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		die("mmap");
	memcpy(ram, &code, sizeof(code));
	__asm__ volatile("fence.i" ::: "memory");
	region.userspace_addr = (uintptr_t)ram;
	ask(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
	vcpu = ask(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	length = ask(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE");
	run = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("mmap");
	set_register(vcpu, CORE(regs.pc), RAM);
	set_register(vcpu, CORE(regs.sp), HOLE);
	set_register(vcpu, CORE(regs.a2), VALUE);
	set_register(vcpu, CORE(mode), 1);
	if (ioctl(vcpu, KVM_RUN, NULL) < 0) {
		printf("KVM_RUN: %s\n", strerror(errno));
		return 0;
	}
	printf("exit reason %u", run->exit_reason);
	if (run->exit_reason == KVM_EXIT_MMIO)
		printf(", MMIO %s of %u at %#llx", run->mmio.is_write ? "write" : "read", run->mmio.len,
			(unsigned long long)run->mmio.phys_addr);
	puts("");
	return run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write && run->mmio.len == size &&
		!memcmp(run->mmio.data, &value, size);
}

int main(void)
{
	int wrong = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++) {
		printf("%s: ", stores[i].text);
		if (!is_carried_out(stores[i].code, stores[i].size))
			wrong++;
	}
	printf("%d wrong of %zu\n", wrong, sizeof(stores) / sizeof(stores[0]));
	return wrong != 0;
}
"""
