/*
 * The C side of compare.py: the same guest, the same ioctls, nothing else.
 *
 * rival mmio|first|probes|synced IMAGE: for each count on stdin, does as many operations and prints the
 * nanoseconds that one took.
 * IMAGE: struct kvm_sregs, struct kvm_regs, u64 bytes of RAM, u64 origin of the code, u64 bytes per
 * probe, u64 number of probes, the probes, then what lies at guest physical 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct image {
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint64_t ram, origin, probe_size, probes;
	uint8_t rest[];
};

struct machine {
	int kvm, vm, vcpu;
	int run_size;
	uint8_t *ram;
	struct kvm_run *run;
};

static struct image *image;
static size_t low_size;
static volatile uint64_t sink;	/* what was read from the record */

static void check(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

static uint8_t *low_memory(void)
{
	return image->rest + image->probes * image->probe_size;
}

static void create(struct machine *m)
{
	static struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entries[128]; } cpuid;

	check(m->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), "open");
	check(ioctl(m->kvm, KVM_GET_API_VERSION, 0), "KVM_GET_API_VERSION");
	check(m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	m->ram = mmap(NULL, image->ram, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {
		.memory_size = image->ram, .userspace_addr = (uintptr_t)m->ram,
	};
	check(ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	memcpy(m->ram, low_memory(), low_size);
	check(m->vcpu = ioctl(m->vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	check(m->run_size = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
	m->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	cpuid.head.nent = 128;
	check(ioctl(m->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(m->vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	check(ioctl(m->vcpu, KVM_SET_SREGS, &image->sregs), "KVM_SET_SREGS");
	check(ioctl(m->vcpu, KVM_SET_REGS, &image->regs), "KVM_SET_REGS");
}

static void destroy(struct machine *m)
{
	munmap(m->run, m->run_size);
	close(m->vcpu);
	close(m->vm);
	close(m->kvm);
	munmap(m->ram, image->ram);
}

static void run(struct machine *m, uint32_t expected)
{
	check(ioctl(m->vcpu, KVM_RUN, 0), "KVM_RUN");
	if (m->run->exit_reason != expected) {
		fprintf(stderr, "exit reason %u, not %u\n", m->run->exit_reason, expected);
		exit(1);
	}
}

static void read_record(struct machine *m)
{
	uint32_t ndata = m->run->internal.ndata;

	sink += m->run->internal.suberror;
	for (uint32_t i = 0; i < ndata && i < 16; i++)
		sink += m->run->internal.data[i];
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* The machine of mmio() and probes(); first() makes its own. */
static struct machine m;

static void mmio(long count)
{
	for (long i = 0; i < count; i++) {
		run(&m, KVM_EXIT_MMIO);
		sink += m.run->mmio.phys_addr + m.run->mmio.len;
		m.run->mmio.data[0] = 0;
	}
}

static void first(long count)
{
	for (long i = 0; i < count; i++) {
		struct machine one;

		create(&one);
		run(&one, KVM_EXIT_INTERNAL_ERROR);
		read_record(&one);
		destroy(&one);
	}
}

static void set_registers(void)
{
	static const struct kvm_vcpu_events nothing_pending;

	check(ioctl(m.vcpu, KVM_SET_VCPU_EVENTS, &nothing_pending), "KVM_SET_VCPU_EVENTS");
	check(ioctl(m.vcpu, KVM_SET_SREGS, &image->sregs), "KVM_SET_SREGS");
	check(ioctl(m.vcpu, KVM_SET_REGS, &image->regs), "KVM_SET_REGS");
}

/* The same without an ioctl: KVM_RUN loads them from the page. */
static void sync_registers(void)
{
	m.run->s.regs.regs = image->regs;
	m.run->s.regs.sregs = image->sregs;
	memset(&m.run->s.regs.events, 0, sizeof(m.run->s.regs.events));
	m.run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
}

static void probe(long count, void (*restart)(void))
{

	for (long i = 0; i < count; i++) {
		memcpy(m.ram + image->origin, image->rest + i % image->probes * image->probe_size, image->probe_size);
		if (m.run->exit_reason == KVM_EXIT_MMIO) {	/* let KVM finish it */
			m.run->immediate_exit = 1;
			if (ioctl(m.vcpu, KVM_RUN, 0) >= 0 || errno != EINTR)
				exit(1);
			m.run->immediate_exit = 0;
		}
		restart();
		check(ioctl(m.vcpu, KVM_RUN, 0), "KVM_RUN");
		if (m.run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
			read_record(&m);
		else
			sink += m.run->mmio.phys_addr;
	}
}

static void probes(long count)
{
	probe(count, set_registers);
}

static void synced(long count)
{
	probe(count, sync_registers);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	FILE *file = fopen(argv[2], "rb");
	if (!file)
		return 2;
	fseek(file, 0, SEEK_END);
	long size = ftell(file);
	rewind(file);
	image = malloc(size);
	if (fread(image, 1, size, file) != (size_t)size)
		return 2;
	fclose(file);
	low_size = (uint8_t *)image + size - low_memory();

	void (*what)(long) = !strcmp(argv[1], "mmio") ? mmio : !strcmp(argv[1], "first") ? first :
		!strcmp(argv[1], "synced") ? synced : probes;
	create(&m);
	for (long count; scanf("%ld", &count) == 1; ) {
		double start = seconds();
		what(count);
		printf("%.1f\n", (seconds() - start) / count * 1e9);
		fflush(stdout);
	}
	return 0;
}
