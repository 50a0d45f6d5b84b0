// SPDX-License-Identifier: MIT
/*
 * Runs a bundle of cases (see cases.py), each in a fresh VM, and prints one JSON object per line.
 *
 *	replay BUNDLE [ID-PREFIX [PROGRESS]]
 *
 * PROGRESS is a file that gets a line "@@case N" before the N-th case of the bundle: should that be
 * the end of the machine, it says who did it.
 *
 * Nothing is decided here: memory, registers and the rules of the run are in the case. A timer
 * ends a guest that does not exit. Exit status: 0, or 1 if no case could be run at all.
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

#ifndef KVM_CAP_EXIT_ON_EMULATION_FAILURE
#define KVM_CAP_EXIT_ON_EMULATION_FAILURE 204
#endif

enum { VERSION = 1, CAP204 = 1, EVENTS = 2, PAYLOAD = 168, MAX_SLOTS = 16, MAX_CPUID = 256 };

struct head {
	char magic[8];
	uint32_t version, size;
	char id[64];
	uint32_t slots, chunks, flags, max_exits, timeout_ms, failures, stop_port, pad;
	uint64_t xcr0;
	uint8_t answer[8];
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
};
_Static_assert(offsetof(struct head, regs) == 128, "the head of a case has no gaps");
_Static_assert(sizeof(struct head) == 128 + 144 + 312 + 64, "the head of a case has no gaps");

struct slot { uint64_t gpa, size, flags; };
struct chunk { uint64_t gpa, size; uint8_t data[]; };

struct vm {
	int fd, vcpu;
	struct kvm_run *run;
	const struct slot *slots;
	uint32_t nr_slots;
	uint8_t *memory[MAX_SLOTS];
};

static int kvm;
static long run_size;
static struct kvm_cpuid2 *cpuid;
static struct kvm_run *volatile running;	/* whom the timer stops */

/* The ioctl that failed first; the rest of the set-up is then skipped. */
static const char *failed;
static int failed_errno;

#define try_ioctl(fd, request, argument) checked(ioctl(fd, request, argument), #request)

static int checked(int result, const char *name)
{
	if (result < 0 && !failed) {
		failed = name;
		failed_errno = errno;
	}
	return result;
}

static void on_alarm(int signal)
{
	(void)signal;
	if (running)
		running->immediate_exit = 1;	/* or the signal could come just before KVM_RUN */
}

static void set_timer(uint32_t ms)
{
	const struct itimerval it = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

	setitimer(ITIMER_REAL, &it, NULL);
}

static void print_hex(const uint8_t *bytes, size_t n)
{
	while (n--)
		printf("%02x", *bytes++);
}

static uint8_t *at(const struct vm *vm, uint64_t gpa, uint64_t size)
{
	for (uint32_t i = 0; i < vm->nr_slots; i++) {
		const struct slot *slot = &vm->slots[i];

		if (vm->memory[i] && gpa >= slot->gpa && gpa - slot->gpa <= slot->size &&
		    size <= slot->size - (gpa - slot->gpa))
			return vm->memory[i] + (gpa - slot->gpa);
	}
	return NULL;
}

static void create(struct vm *vm, const struct head *head)
{
	const uint8_t *next = (const uint8_t *)(head + 1);
	uint64_t identity_map = 0xfffbc000;

	vm->fd = vm->vcpu = -1;
	vm->slots = (const struct slot *)next;
	vm->nr_slots = head->slots < MAX_SLOTS ? head->slots : MAX_SLOTS;
	next += head->slots * sizeof(struct slot);

	vm->fd = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	if (vm->fd < 0)
		return;
	if (head->flags & CAP204) {
		struct kvm_enable_cap cap = { .cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args = { 1 } };

		try_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
	}
	/* VMX keeps three pages and a page table of its own below 4 GiB, for real mode. */
	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0)
		try_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	if (ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0)
		try_ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000ul);

	for (uint32_t i = 0; i < vm->nr_slots; i++) {
		const struct slot *slot = &vm->slots[i];
		uint8_t *memory = mmap(NULL, slot->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct kvm_userspace_memory_region region = {
			i, (uint32_t)slot->flags, slot->gpa, slot->size, (uintptr_t)memory
		};

		if (memory == MAP_FAILED) {
			checked(-1, "mmap");
			return;
		}
		vm->memory[i] = memory;
		try_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
	}
	for (uint32_t i = 0; i < head->chunks; i++) {
		const struct chunk *chunk = (const struct chunk *)next;
		uint8_t *memory = at(vm, chunk->gpa, chunk->size);

		if (memory)
			memcpy(memory, chunk->data, chunk->size);
		next += sizeof(*chunk) + (chunk->size + 7) / 8 * 8;
	}

	vm->vcpu = checked(ioctl(vm->fd, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	if (vm->vcpu < 0)
		return;
	vm->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED) {
		vm->run = NULL;
		checked(-1, "mmap");
	}
}

static void load(const struct vm *vm, const struct head *head)
{
	struct kvm_sregs sregs, old;

	try_ioctl(vm->vcpu, KVM_SET_CPUID2, cpuid);
	try_ioctl(vm->vcpu, KVM_GET_SREGS, &old);
	memcpy(&sregs, &head->sregs, sizeof(sregs));
	sregs.apic_base = old.apic_base;
	if (!failed)
		try_ioctl(vm->vcpu, KVM_SET_SREGS, &sregs);
	if (!failed && head->xcr0) {
		struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .value = head->xcr0 } } };

		try_ioctl(vm->vcpu, KVM_SET_XCRS, &xcrs);
	}
	if (!failed)
		try_ioctl(vm->vcpu, KVM_SET_REGS, &head->regs);
	if (!failed && head->flags & EVENTS)
		try_ioctl(vm->vcpu, KVM_SET_VCPU_EVENTS, &head->events);
}

static void destroy(struct vm *vm)
{
	if (vm->run)
		munmap(vm->run, run_size);
	if (vm->vcpu >= 0)
		close(vm->vcpu);
	if (vm->fd >= 0)
		close(vm->fd);
	for (uint32_t i = 0; i < vm->nr_slots; i++)
		if (vm->memory[i])
			munmap(vm->memory[i], vm->slots[i].size);
}

/* Prints the exit and answers it. Whether it was access to a device. */
static int device(struct kvm_run *run, const struct head *head)
{
	if (run->exit_reason == KVM_EXIT_MMIO) {
		uint32_t len = run->mmio.len < 8 ? run->mmio.len : 8;

		printf("{\"reason\":6,\"gpa\":\"0x%llx\",\"size\":%u", run->mmio.phys_addr, run->mmio.len);
		if (run->mmio.is_write) {
			printf(",\"write\":true,\"data\":\"");
			print_hex(run->mmio.data, len);
			printf("\"}");
		} else {
			memcpy(run->mmio.data, head->answer, len);
			printf("}");
		}
		return 1;
	}
	if (run->exit_reason == KVM_EXIT_IO) {
		uint8_t *data = (uint8_t *)run + run->io.data_offset;

		printf("{\"reason\":2,\"port\":%u,\"size\":%u,\"count\":%u", run->io.port, run->io.size, run->io.count);
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			printf(",\"write\":true,\"data\":\"");
			print_hex(data, run->io.size * run->io.count);
			printf("\"}");
		} else {
			for (uint32_t i = 0; i < run->io.count; i++)
				memcpy(data + i * run->io.size, head->answer, run->io.size);
			printf("}");
		}
		return 1;
	}
	return 0;
}

/* Runs the guest, printing its exits; why that ended. */
static const char *run_guest(const struct vm *vm, const struct head *head)
{
	struct kvm_run *run = vm->run;
	uint32_t failures = 0;

	for (uint32_t n = 0; n < head->max_exits; n++) {
		int result = ioctl(vm->vcpu, KVM_RUN, 0), error = errno;

		if (result < 0 && error == EINTR)
			return "timeout";
		if (n)
			putchar(',');
		if (result == 0 && device(run, head)) {
			if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT &&
			    run->io.port == head->stop_port) {
				run->immediate_exit = 1;	/* complete the OUT, and no more */
				ioctl(vm->vcpu, KVM_RUN, 0);
				return "exit";
			}
			continue;
		}
		printf("{\"reason\":%u,\"payload\":\"", run->exit_reason);
		print_hex((const uint8_t *)run + 32, PAYLOAD);
		printf("\"}");
		if (result < 0) {
			failed = "KVM_RUN";
			failed_errno = error;
			return "error";
		}
		if (run->exit_reason == KVM_EXIT_HLT || run->exit_reason == KVM_EXIT_SHUTDOWN ||
		    ++failures >= head->failures)
			return "exit";
	}
	return "max-exits";
}

static void print_state(const struct vm *vm)
{
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;

	if (ioctl(vm->vcpu, KVM_GET_REGS, &regs) < 0 || ioctl(vm->vcpu, KVM_GET_SREGS, &sregs) < 0 ||
	    ioctl(vm->vcpu, KVM_GET_VCPU_EVENTS, &events) < 0)
		return;
	printf(",\"state\":{\"rip\":\"0x%llx\",\"rflags\":\"0x%llx\",\"rsp\":\"0x%llx\",\"rax\":\"0x%llx\",",
	       regs.rip, regs.rflags, regs.rsp, regs.rax);
	printf("\"rcx\":\"0x%llx\",\"rsi\":\"0x%llx\",\"rdi\":\"0x%llx\",\"cs\":\"0x%x\",\"cr2\":\"0x%llx\"}",
	       regs.rcx, regs.rsi, regs.rdi, sregs.cs.selector, sregs.cr2);
	printf(",\"event\":{");
	if (events.exception.injected || events.exception.pending)
		printf("\"exception\":%u%s", events.exception.nr,
		       events.interrupt.injected || events.nmi.injected ? "," : "");
	if (events.interrupt.injected)
		printf("\"interrupt\":%u%s", events.interrupt.nr, events.nmi.injected ? "," : "");
	if (events.nmi.injected)
		printf("\"nmi\":true");
	printf("}");
}

static void run_case(const struct head *head)
{
	struct vm vm = { 0 };
	const char *stop = "refused";

	failed = NULL;
	printf("{\"id\":\"%s\",\"exits\":[", head->id);
	create(&vm, head);
	if (!failed)
		load(&vm, head);
	if (!failed) {
		running = vm.run;
		set_timer(head->timeout_ms);
		stop = run_guest(&vm, head);
		set_timer(0);
		running = NULL;
	}
	printf("],\"stop\":\"%s\"", stop);
	if (failed)
		printf(",\"failed\":{\"ioctl\":\"%s\",\"errno\":%d}", failed, failed_errno);
	if (strcmp(stop, "refused"))
		print_state(&vm);
	puts("}");
	destroy(&vm);
}

static void die(const char *what)
{
	fprintf(stderr, "replay: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	const struct sigaction action = { .sa_handler = on_alarm };
	const char *prefix = argc > 2 ? argv[2] : "";
	struct stat status;
	FILE *progress = argc > 3 ? fopen(argv[3], "w") : NULL;
	uint8_t *bundle;
	int fd, n = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: replay BUNDLE [ID-PREFIX [PROGRESS]]\n");
		return 1;
	}
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &status) < 0)
		die(argv[1]);
	bundle = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bundle == MAP_FAILED)
		die(argv[1]);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	if (!cpuid)
		die("calloc");
	cpuid->nent = MAX_CPUID;
	if (run_size < 0 || ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
		die("KVM_GET_SUPPORTED_CPUID");
	sigaction(SIGALRM, &action, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);

	for (off_t offset = 0; offset < status.st_size;) {
		const struct head *head = (const struct head *)(bundle + offset);

		if (status.st_size - offset < (off_t)sizeof(*head) || memcmp(head->magic, "kvmwhy\0\n", 8) ||
		    head->version != VERSION || head->size < sizeof(*head) || head->size > status.st_size - offset) {
			fprintf(stderr, "replay: no case of version %d at offset %lld\n", VERSION, (long long)offset);
			return 1;
		}
		if (progress) {
			fprintf(progress, "@@case %d\n", n);
			fflush(progress);
		}
		if (!strncmp(head->id, prefix, strlen(prefix)))
			run_case(head);
		offset += head->size;
		n++;
	}
	return 0;
}
