// SPDX-License-Identifier: MIT
/*
 * Asks a KVM's emulator about thousands of instructions in one VM: a batch of kvmwhy.probe.batch.
 *
 *	sweep BATCH ["" [PROGRESS]]
 *
 * Each probe is run where its operand has no memory, and, if the guest halts, again where the operand is
 * in RAM and the CPU itself executes; what both leave behind is compared, with one value of the operand
 * or two. Nothing is judged here. PROGRESS gets a line "@@case N" now and then, and before each probe
 * if the batch says step 1: should that be the end of the machine, it says who did it.
 *
 * A line of output: number reason at suberror ndata fetched accesses native_reason native_at differs
 * differs_other. Exit status: 0, or 1 if nothing could be run at all.
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
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/kvm.h>

enum {
	RAM_SIZE = 0x10000, HOLE_SIZE = 0x2000, NONE = 255, NO_RAM = 0xffffffff, ENDLESS = -1000,
	STACK = 0x3000, DATA = 0xc000, OTHER = 0xe000, HANDLERS = 0x9000, HANDLERS_END = 0x9300, PAGE = 0x1000, MAX_CPUID = 256, MAX_ACCESSES = 16,
	PROGRESS_STEP = 256,
};

struct head {
	char magic[8];
	uint32_t templates, values, probes, max_exits, timeout_ms, step;
	uint8_t xsave[4096];
};

struct template {
	uint32_t code_at, data_at, hole, linear;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint8_t ram[RAM_SIZE];
	uint32_t field, pad;
};

struct probe {
	uint8_t asked, native, data, other, length, pad[3];
	uint8_t code[16];
};

struct end {
	int reason;
	uint64_t at;	/* linear RIP */
	uint32_t suberror, ndata, fetched;
	char accesses[8 * MAX_ACCESSES];
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	uint8_t operand[HOLE_SIZE], stack[PAGE], other[PAGE];
};

static int kvm, vm, vcpu, run_size;
static struct kvm_run *run;
static uint8_t *ram;
static struct kvm_cpuid2 *cpuid;
static uint64_t apic_base;
static struct kvm_vcpu_events no_events;
static struct kvm_debugregs no_breakpoints;
static const struct head *head;
static const struct template *templates;
static const uint8_t (*values)[64];
static uint8_t device[HOLE_SIZE];
static const char *failed;

static void die(const char *what)
{
	fprintf(stderr, "sweep: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void on_alarm(int signal)
{
	(void)signal;
	run->immediate_exit = 1;
}

static void set_timer(uint32_t ms)
{
	const struct itimerval it = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

	setitimer(ITIMER_REAL, &it, NULL);
}

static void create(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM_SIZE, .userspace_addr = (uintptr_t)ram };
	uint64_t identity_map = 0xfffbc000;
	struct kvm_sregs sregs;

	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		die("KVM_CREATE_VM");
	if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0)
		ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0)
		ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("KVM_SET_USER_MEMORY_REGION");
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		die("KVM_CREATE_VCPU");
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("mmap");
	if (ioctl(vcpu, KVM_SET_CPUID2, cpuid) < 0)
		die("KVM_SET_CPUID2");
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_GET_VCPU_EVENTS, &no_events) < 0 ||
	    ioctl(vcpu, KVM_GET_DEBUGREGS, &no_breakpoints) < 0)
		die("the state of a new vCPU");
	apic_base = sregs.apic_base;
}

static void recreate(void)
{
	munmap(run, run_size);
	close(vcpu);
	close(vm);
	create();
}

/* What an earlier probe left half done is completed, so that it cannot meddle with the next. */
static void settle(void)
{
	run->immediate_exit = 1;
	for (int i = 0; i < 64 && ioctl(vcpu, KVM_RUN, 0) == 0; i++)
		;
	run->immediate_exit = 0;
}

static void tell(int request_failed, const char *name)
{
	if (request_failed && !failed)
		failed = name;
}

static void load(const struct template *t, const struct probe *p, const uint8_t *value)
{
	struct kvm_sregs sregs = t->sregs;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = 7 } } };

	sregs.apic_base = apic_base;
	memcpy(ram, t->ram, RAM_SIZE);
	memcpy(ram + t->code_at, p->code, p->length);
	memset(device, 0, sizeof(device));
	memcpy(t->data_at == NO_RAM ? device + t->field : ram + t->data_at, value, 64);
	failed = NULL;
	tell(ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0, "KVM_SET_SREGS");
	tell(ioctl(vcpu, KVM_SET_VCPU_EVENTS, &no_events) < 0, "KVM_SET_VCPU_EVENTS");
	tell(ioctl(vcpu, KVM_SET_XCRS, &xcrs) < 0, "KVM_SET_XCRS");
	tell(ioctl(vcpu, KVM_SET_XSAVE, head->xsave) < 0, "KVM_SET_XSAVE");
	tell(ioctl(vcpu, KVM_SET_DEBUGREGS, &no_breakpoints) < 0, "KVM_SET_DEBUGREGS");
	tell(ioctl(vcpu, KVM_SET_REGS, &t->regs) < 0, "KVM_SET_REGS");
}

static void note(struct end *end, int *count, char what, unsigned int size)
{
	size_t used = strlen(end->accesses);

	if ((*count)++ < MAX_ACCESSES)
		snprintf(end->accesses + used, sizeof(end->accesses) - used, "%c%u", what, size);
}

static void answer(const struct template *t, struct end *end, int *count)
{
	if (run->exit_reason == KVM_EXIT_IO) {
		uint8_t *data = (uint8_t *)run + run->io.data_offset;

		if (run->io.direction == KVM_EXIT_IO_IN)
			memset(data, 0x5a, (size_t)run->io.size * run->io.count);
		note(end, count, run->io.direction == KVM_EXIT_IO_IN ? 'i' : 'o', run->io.size);
		return;
	}
	uint64_t at = run->mmio.phys_addr - t->hole;
	uint32_t len = run->mmio.len < 8 ? run->mmio.len : 8;

	note(end, count, run->mmio.is_write ? 'w' : 'r', run->mmio.len);
	if (at > HOLE_SIZE - len) {
		memset(run->mmio.data, 0, 8);
		return;
	}
	if (run->mmio.is_write)
		memcpy(device + at, run->mmio.data, len);
	else
		memcpy(run->mmio.data, device + at, len);
}

static void go(const struct template *t, const struct probe *p, const uint8_t *value, struct end *end, uint32_t ms)
{
	int result, count = 0;

	memset(end, 0, offsetof(struct end, regs));
	load(t, p, value);
	if (failed) {
		end->reason = -EPERM;
		settle();
		return;
	}
	set_timer(ms);
	for (;;) {
		result = ioctl(vcpu, KVM_RUN, 0);
		if (result < 0) {
			end->reason = -errno;
			break;
		}
		end->reason = run->exit_reason;
		if (run->exit_reason != KVM_EXIT_MMIO && run->exit_reason != KVM_EXIT_IO)
			break;
		answer(t, end, &count);
		if (count >= (int)head->max_exits) {
			end->reason = ENDLESS;
			break;
		}
	}
	set_timer(0);
	run->immediate_exit = 0;
	if (end->reason == KVM_EXIT_INTERNAL_ERROR) {
		end->suberror = run->internal.suberror;
		end->ndata = run->internal.ndata;
		if (end->ndata >= 3 && run->internal.data[0] & 1)
			end->fetched = run->internal.data[1] & 0xff;
	}
	ioctl(vcpu, KVM_GET_REGS, &end->regs);
	ioctl(vcpu, KVM_GET_SREGS, &end->sregs);
	end->at = end->regs.rip + end->sregs.cs.base;
	if (end->reason == KVM_EXIT_HLT) {
		ioctl(vcpu, KVM_GET_XSAVE, &end->xsave);
		memcpy(end->operand, t->data_at == NO_RAM ? device : ram + DATA, HOLE_SIZE);
		memcpy(end->stack, ram + STACK, PAGE);
		memcpy(end->other, ram + OTHER, PAGE);
	}
	if (end->reason < 0)
		settle();
	if (end->reason == -EIO || end->reason == -ENOTRECOVERABLE || end->reason == -EFAULT)
		recreate();
}

/* What differs, by bit: see DIFFERS in kvmwhy/probe/batch.py. */
static uint32_t compare(const struct end *a, const struct end *b, const struct template *ta, const struct template *tb)
{
	const uint64_t *ra = (const uint64_t *)&a->regs, *rb = (const uint64_t *)&b->regs;
	const uint8_t *xa = (const uint8_t *)&a->xsave, *xb = (const uint8_t *)&b->xsave;
	const struct kvm_segment *sa = &a->sregs.cs, *sb = &b->sregs.cs;
	uint32_t differs = 0;

	for (int i = 0; i < 16; i++)
		differs |= (uint32_t)(ra[i] != rb[i]) << i;
	if (a->at != b->at)
		differs |= 1 << 16;
	if ((a->regs.rflags ^ b->regs.rflags) & ~0x10000ull)	/* RF is what a restart leaves */
		differs |= 1 << 17;
	if (memcmp(xa, xb, 6) || memcmp(xa + 32, xb + 32, 128))	/* not the last opcode and pointers */
		differs |= 1 << 18;
	if (memcmp(xa + 160, xb + 160, 256))
		differs |= 1 << 19;
	if (memcmp(xa + 576, xb + 576, 256))
		differs |= 1 << 20;
	if (memcmp(xa + 24, xb + 24, 4))
		differs |= 1 << 21;
	for (int i = 0; i < 6; i++) {
		/* In real mode the bases lead to the operand, one here and one there. */
		const struct kvm_segment *ia = &ta->sregs.cs + i, *ib = &tb->sregs.cs + i;
		int moved = ia->base != ib->base && sa[i].base == ia->base && sb[i].base == ib->base;

		if (!moved && (sa[i].base != sb[i].base || sa[i].selector != sb[i].selector))
			differs |= 1 << 22;
	}
	if (a->sregs.ldt.selector != b->sregs.ldt.selector || a->sregs.tr.selector != b->sregs.tr.selector ||
	    a->sregs.gdt.base != b->sregs.gdt.base || a->sregs.gdt.limit != b->sregs.gdt.limit ||
	    a->sregs.idt.base != b->sregs.idt.base || a->sregs.idt.limit != b->sregs.idt.limit)
		differs |= 1 << 23;
	if (a->sregs.cr0 != b->sregs.cr0 || a->sregs.cr2 != b->sregs.cr2 || a->sregs.cr3 != b->sregs.cr3 ||
	    a->sregs.cr4 != b->sregs.cr4 || a->sregs.cr8 != b->sregs.cr8 || a->sregs.efer != b->sregs.efer)
		differs |= 1 << 24;
	if (memcmp(a->operand, b->operand, HOLE_SIZE))
		differs |= 1 << 25;
	/* A frame of an exception has RF, or has it not. */
	if (a->at >= HANDLERS && a->at < HANDLERS_END)
		return differs & ~(1u << 26);
	if (memcmp(a->stack, b->stack, PAGE) || memcmp(a->other, b->other, PAGE))
		differs |= 1 << 26;
	return differs;
}

static void ask(uint32_t number, const struct probe *p)
{
	static struct end asked, native, again, other;
	const struct template *t = templates + p->asked, *n = templates + p->native;
	int compared[2] = { -1, -1 };

	go(t, p, values[p->data], &asked, head->timeout_ms);
	if (asked.reason == -EINTR)	/* a slow machine is no proof: once more, and longer */
		go(t, p, values[p->data], &asked, 4 * head->timeout_ms);
	native.reason = 0;
	native.at = 0;
	if (asked.reason == KVM_EXIT_HLT && p->native != NONE) {
		go(n, p, values[p->data], &native, head->timeout_ms);
		if (native.reason == KVM_EXIT_HLT)
			compared[0] = (int)compare(&asked, &native, t, n);
		if (native.reason == KVM_EXIT_HLT && p->other != NONE) {
			go(t, p, values[p->other], &again, head->timeout_ms);
			go(n, p, values[p->other], &other, head->timeout_ms);
			if (again.reason == KVM_EXIT_HLT && other.reason == KVM_EXIT_HLT)
				compared[1] = (int)compare(&again, &other, t, n);
		}
	}
	printf("%u %d %llx %u %u %u %s %d %llx %d %d\n", number, asked.reason, (unsigned long long)asked.at,
	       asked.suberror, asked.ndata, asked.fetched, asked.accesses[0] ? asked.accesses : "-", native.reason,
	       (unsigned long long)native.at, compared[0], compared[1]);
}

int main(int argc, char **argv)
{
	const struct sigaction action = { .sa_handler = on_alarm };
	FILE *progress = argc > 3 ? fopen(argv[3], "w") : NULL;
	const struct probe *probes;
	struct stat status;
	int fd;

	if (argc < 2) {
		fprintf(stderr, "usage: sweep BATCH [\"\" [PROGRESS]]\n");
		return 1;
	}
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &status) < 0)
		die(argv[1]);
	head = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (head == MAP_FAILED)
		die(argv[1]);
	templates = (const struct template *)(head + 1);
	values = (const void *)(templates + head->templates);
	probes = (const void *)(values + head->values);
	if (memcmp(head->magic, "kvmwhyS\n", 8) || (const uint8_t *)(probes + head->probes) !=
	    (const uint8_t *)head + status.st_size) {
		fprintf(stderr, "sweep: %s is no batch\n", argv[1]);
		return 1;
	}
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!cpuid || ram == MAP_FAILED)
		die("memory");
	cpuid->nent = MAX_CPUID;
	if (run_size < 0 || ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		die("KVM_GET_SUPPORTED_CPUID");
	create();
	sigaction(SIGALRM, &action, NULL);
	for (uint32_t i = 0; i < head->probes; i++) {
		if (progress && (head->step || i % PROGRESS_STEP == 0)) {
			fprintf(progress, "@@case %u\n", i);
			fflush(progress);
		}
		ask(i, probes + i);
		if (head->step)
			fflush(stdout);
	}
	if (failed)
		fprintf(stderr, "sweep: the last probe was refused: %s\n", failed);
	return 0;
}
