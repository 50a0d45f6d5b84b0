/* Runs instructions one by one in a bare guest, each with its operand where there is no memory, and prints what KVM_RUN
 * returns for it. It is compiled for each architecture with its own header, and decides nothing: see lab/traps.py.
 *
 * usage: trap_sweep WORDS SETUP...
 *
 * WORDS: u32 little endian each; of RISC-V, a word whose two lowest bits are not both set is a compressed instruction.
 * Of each setup (a name of the header's list) all words are asked, a JSON object a line:
 *   {"setup":"mmu-off","word":"f9400004","mmio":[["0xd000000",8,0,"0x0"]],"end":"done"}
 * mmio: address, length, is_write, data of each exit before the end. end: "done", the next instruction ran;
 * "errno" N; "exception", the guest's own vector ran: cause and address; "exit" N, with two words of the union;
 * "timeout", KVM_RUN did not return; "endless", the same for ever.
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
#include <linux/kvm.h>

#define RAM_SIZE 0x200000ull
#define ROM_SIZE 0x10000ull
#define HOLE 0x0d000000ull	/* the operand: no memory slot */
#define TRAP 0x0e000000ull	/* the vectors write cause and address here */
#define DONE 0x0f000000ull	/* the instruction behind the one under test writes here */
#define MOST 12			/* exits; what goes on longer is endless */
#define TIMEOUT_US 300000

struct setup {
	const char *name;
	uint64_t operand;
	int option;		/* a capability that the VM is given */
	int paging;
	int user;		/* at the lowest privilege level */
	int inject;		/* of an access that KVM hands to userspace undescribed: a fault for the guest, and on */
};

struct machine {
	int vm, vcpu;
	struct kvm_run *run;
	uint8_t *ram;
};

static int kvm;
static struct machine machines[2];	/* without the capability, and with it */

static void die(const char *what)
{
	fprintf(stderr, "trap_sweep: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void set_register(const struct machine *m, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	if (ioctl(m->vcpu, KVM_SET_ONE_REG, &reg) < 0) {
		fprintf(stderr, "trap_sweep: register %llx\n", (unsigned long long)id);
		die("KVM_SET_ONE_REG");
	}
}

static void put(const struct machine *m, uint64_t offset, const void *data, size_t size)
{
	memcpy(m->ram + offset, data, size);
}

static void add_slot(const struct machine *m, uint32_t slot, uint32_t flags, uint64_t at, uint64_t size, void *host)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = at, .memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		die("KVM_SET_USER_MEMORY_REGION");
}

static void *memory(size_t size)
{
	void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (host == MAP_FAILED)
		die("mmap");
	return host;
}

#if defined(__aarch64__)
#include "trap_arm64.h"
#elif defined(__riscv)
#include "trap_riscv64.h"
#else
#error "no header for this architecture"
#endif

static struct machine *machine_of(int option)
{
	struct machine *m = machines + !!option;
	long size;

	if (m->ram)
		return m;
	m->vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (m->vm < 0)
		die("KVM_CREATE_VM");
	if (option)
		give_option(m);
	m->ram = memory(RAM_SIZE);
	add_slot(m, 0, 0, RAM, RAM_SIZE, m->ram);
	add_slot(m, 1, KVM_MEM_READONLY, ROM, ROM_SIZE, memory(ROM_SIZE));
	m->vcpu = ioctl(m->vm, KVM_CREATE_VCPU, 0);
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (m->vcpu < 0 || size < 0)
		die("KVM_CREATE_VCPU");
	m->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	if (m->run == MAP_FAILED)
		die("kvm_run");
	prepare(m);
	return m;
}

static void arm_timer(long us)
{
	struct itimerval timer = { .it_value = { .tv_usec = us }, .it_interval = { .tv_usec = us } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void nothing(int number)
{
	(void)number;
}

static uint64_t word_at(const void *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

/* What a device gives for a read; it is no address, and negative as a number of every width. */
static void answer(struct kvm_run *run)
{
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xa5, sizeof(run->mmio.data));
}

/* One answer, printed into ``text`` if KVM_RUN returned in time; else 0. */
static int run(const struct machine *m, const struct setup *setup, uint32_t word, long timeout, FILE *text)
{
	struct kvm_run *run = m->run;
	unsigned long long cause = 0;
	int caught = 0, count = 0, in_time = 1;

	load(m, setup, word);
	fprintf(text, "{\"setup\":\"%s\",\"word\":\"%0*x\",\"mmio\":[", setup->name, word_size(word) * 2, word);
	arm_timer(timeout);
	for (;;) {
		unsigned long long address, data;

		if (ioctl(m->vcpu, KVM_RUN, 0) < 0) {
			in_time = errno != EINTR;
			if (in_time)
				fprintf(text, "],\"end\":\"errno\",\"errno\":%d}\n", errno);
			else
				fprintf(text, "],\"end\":\"timeout\"}\n");
			break;
		}
		if (run->exit_reason != KVM_EXIT_MMIO && setup->inject && inject(m))
			continue;
		if (run->exit_reason != KVM_EXIT_MMIO) {
			fprintf(text, "],\"end\":\"exit\",\"exit\":%u,\"words\":[\"%#llx\",\"%#llx\"]}\n",
				run->exit_reason, (unsigned long long)word_at(&run->mmio),
				(unsigned long long)word_at((char *)&run->mmio + 8));
			break;
		}
		address = run->mmio.phys_addr;
		data = word_at(run->mmio.data);
		if (address == DONE) {
			fprintf(text, "],\"end\":\"done\"}\n");
			break;
		}
		if (address == TRAP) {
			cause = data;
			caught = 1;
			continue;
		}
		if (address == TRAP + 8 && caught) {
			fprintf(text, "],\"end\":\"exception\",\"cause\":\"%#llx\",\"address\":\"%#llx\"}\n", cause,
				data);
			break;
		}
		if (run->mmio.len < 8)
			data &= (1ull << run->mmio.len * 8) - 1;
		if (count == MOST) {
			fprintf(text, "],\"end\":\"endless\"}\n");
			break;
		}
		fprintf(text, "%s[\"%#llx\",%u,%u,\"%#llx\"]", count++ ? "," : "", address, run->mmio.len,
			run->mmio.is_write, run->mmio.is_write ? data : 0ull);
		answer(run);
	}
	arm_timer(0);
	/* What the last exit left undone is carried out, and nothing after it. */
	run->immediate_exit = 1;
	for (int i = 0; i < 8 && !(ioctl(m->vcpu, KVM_RUN, 0) < 0 && errno == EINTR); i++)
		;
	run->immediate_exit = 0;
	return in_time;
}

static void ask(const struct machine *m, const struct setup *setup, uint32_t word)
{
	static char text[4096];
	FILE *file = fmemopen(text, sizeof(text), "w");

	if (!file)
		die("fmemopen");
	if (!run(m, setup, word, TIMEOUT_US, file)) {	/* a slow machine is no proof: once more, and longer */
		rewind(file);
		run(m, setup, word, 3 * TIMEOUT_US, file);
	}
	fputc('\0', file);
	fclose(file);
	fputs(text, stdout);
}

int main(int argc, char **argv)
{
	const struct sigaction action = { .sa_handler = nothing };	/* without SA_RESTART: KVM_RUN ends with EINTR */
	const uint32_t *words;
	struct stat status;
	int fd;

	if (argc < 3) {
		fprintf(stderr, "usage: trap_sweep WORDS SETUP...\n");
		return 1;
	}
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &status) < 0)
		die(argv[1]);
	words = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (words == MAP_FAILED)
		die(argv[1]);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm");
	sigaction(SIGALRM, &action, NULL);
	for (int i = 2; i < argc; i++) {
		const struct setup *setup = setups;
		const struct machine *m;

		while (setup->name && strcmp(setup->name, argv[i]))
			setup++;
		if (!setup->name) {
			fprintf(stderr, "trap_sweep: no setup %s\n", argv[i]);
			return 1;
		}
		m = machine_of(setup->option);
		enter(m, setup);
		fprintf(stderr, "@@setup %s\n", setup->name);
		for (size_t n = 0; n < status.st_size / sizeof(*words); n++) {
			if (n % 256 == 0)
				fprintf(stderr, "@@case %zu\n", n);
			ask(m, setup, words[n]);
		}
	}
	return 0;
}
