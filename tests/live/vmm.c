/* A VMM of its own for the tests of capture: guests that fail in a known way, a known number of times.
 *
 *   vmm GUEST VMS VCPUS RUNS END
 *
 * GUEST: real16 prot32 long64 (an x87 load from where there is no RAM), jump (to where there is no RAM),
 *        triple (a triple fault), mmio (RUNS device reads that all go well, for measurements).
 * Each of VMS machines has VCPUS vCPUs, each in a thread of its own that enters its guest RUNS times,
 * whatever comes back. END: exit (die at once), hold (until stdin closes), pace (a millisecond between two
 * runs, then exit), again (do all of it once more as another program by the same number, then exit). Prints one line for each vCPU: thread, VM, vCPU, internal errors, shutdowns, others.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RAM = 1 << 20, CODE = 0x10000, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, HOLE = 0xd0000000u };

static const char *guest, *ending;
static int runs, vcpus, run_size, kvm;
static pthread_barrier_t start, finish;

struct vcpu {
	pthread_t thread;
	int vm, fd, machine, number;
	struct kvm_run *run;
	long tid, errors, shutdowns, others;
};

static void tables(uint8_t *ram)
{
	uint64_t *pml4 = (uint64_t *)(ram + PML4), *pdpt = (uint64_t *)(ram + PDPT);

	pml4[0] = PDPT | 3;
	for (uint64_t gib = 0; gib < 4; gib++) {
		uint64_t *pd = (uint64_t *)(ram + PD + 0x1000 * gib);

		pdpt[gib] = (PD + 0x1000 * gib) | 3;
		for (uint64_t n = 0; n < 512; n++)
			pd[n] = (gib << 30 | n << 21) | 0x83;
	}
}

static void enter_mode(struct vcpu *v)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = CODE, .rflags = 2, .rsp = 0x8000, .rbx = HOLE };
	int real = !strcmp(guest, "real16"), wide = !strcmp(guest, "long64");

	if (ioctl(v->fd, KVM_GET_SREGS, &s))
		err(1, "KVM_GET_SREGS");
	struct kvm_segment code = { .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .g = 1,
				    .db = !wide, .l = wide };
	struct kvm_segment data = { .limit = 0xffffffff, .selector = 16, .type = 3, .present = 1, .s = 1, .g = 1,
				    .db = 1 };

	if (real) {
		s.cs.base = CODE;
		s.cs.selector = CODE >> 4;
		s.ds.base = 0xb8000; /* not RAM here: RAM ends below */
		s.ds.selector = 0xb800;
		r.rip = 0;
		r.rbx = 0x10;
	} else {
		s.cs = code;
		s.ds = s.es = s.fs = s.gs = s.ss = data;
		s.cr0 = 0x11;
		s.idt.limit = strcmp(guest, "triple") ? 0xffff : 0;
	}
	if (wide) {
		s.cr3 = PML4;
		s.cr4 = 0x20;
		s.cr0 |= 0x80000000u;
		s.efer = 0x500;
	}
	if (ioctl(v->fd, KVM_SET_SREGS, &s) || ioctl(v->fd, KVM_SET_REGS, &r))
		err(1, "setting registers");
}

static void *run(void *given)
{
	struct vcpu *v = given;
	struct timespec moment = { .tv_nsec = 1000000 };

	v->tid = syscall(SYS_gettid);
	pthread_barrier_wait(&start);
	for (int n = 0; n < runs; n++) {
		int failed = ioctl(v->fd, KVM_RUN, 0);

		if (failed && errno == EINTR)
			n--;
		else if (!failed && v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
			v->errors++;
		else if (!failed && v->run->exit_reason == KVM_EXIT_SHUTDOWN)
			v->shutdowns++;
		else
			v->others++;
		if (!strcmp(ending, "pace"))
			nanosleep(&moment, NULL);
	}
	pthread_barrier_wait(&finish);
	for (;;) /* a vCPU's thread outlives its guest's failure */
		pause();
	return NULL;
}

static void fill(uint8_t *ram)
{
	static const struct { const char *name; uint8_t code[8]; } guests[] = {
		{ "real16", { 0xd9, 0x07, 0xf4 } },            /* fld dword [bx] */
		{ "prot32", { 0xd9, 0x03, 0xf4 } },            /* fld dword [ebx] */
		{ "long64", { 0xd9, 0x03, 0xf4 } },            /* fld dword [rbx] */
		{ "jump", { 0xff, 0xe3, 0xf4 } },              /* jmp ebx */
		{ "triple", { 0x0f, 0x0b, 0xf4 } },            /* ud2 */
		{ "mmio", { 0x8b, 0x03, 0xeb, 0xfc } },        /* again: mov eax, [ebx]; jmp again */
	};

	for (size_t n = 0; n < sizeof guests / sizeof *guests; n++)
		if (!strcmp(guests[n].name, guest)) {
			memcpy(ram + CODE, guests[n].code, sizeof guests[n].code);
			tables(ram);
			return;
		}
	errx(2, "no guest %s", guest);
}

int main(int argc, char **argv)
{
	if (argc != 6)
		errx(2, "usage: vmm GUEST VMS VCPUS RUNS END");
	int vms = atoi(argv[2]);

	guest = argv[1], vcpus = atoi(argv[3]), runs = atoi(argv[4]), ending = argv[5];
	if ((kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0)
		err(3, "/dev/kvm");
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct vcpu *all = calloc((size_t)(vms * vcpus), sizeof *all);

	pthread_barrier_init(&start, NULL, (unsigned)(vms * vcpus));
	pthread_barrier_init(&finish, NULL, (unsigned)(vms * vcpus + 1));
	for (int m = 0; m < vms; m++) {
		int vm = ioctl(kvm, KVM_CREATE_VM, 0);
		/* RAM below the legacy hole only, so that 0xb8000 is none in real mode. */
		uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct kvm_userspace_memory_region region = { .memory_size = 0xa0000, .userspace_addr = (uintptr_t)ram };

		fill(ram);
		if (vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region))
			err(1, "a VM");
		for (int n = 0; n < vcpus; n++) {
			struct vcpu *v = &all[m * vcpus + n];

			*v = (struct vcpu){ .vm = vm, .machine = m, .number = n, .fd = ioctl(vm, KVM_CREATE_VCPU, n) };
			if (v->fd < 0)
				err(1, "KVM_CREATE_VCPU");
			v->run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
			enter_mode(v);
		}
	}
	for (int n = 0; n < vms * vcpus; n++)
		pthread_create(&all[n].thread, NULL, run, &all[n]);
	pthread_barrier_wait(&finish);
	for (int n = 0; n < vms * vcpus; n++)
		printf("%ld %d %d %ld %ld %ld\n", all[n].tid, all[n].machine, all[n].number, all[n].errors,
		       all[n].shutdowns, all[n].others);
	fflush(stdout);
	if (!strcmp(ending, "again"))
		execl(argv[0], argv[0], argv[1], argv[2], argv[3], argv[4], "exit", NULL);
	if (!strcmp(ending, "hold"))
		while (getchar() != EOF)
			;
	_exit(0);
}
