/* riscv64's part of trap_sweep.c: a vCPU in VS or VU mode, satp bare or an Sv39 identity map of 1 GiB pages. */
#define RAM 0x80000000ull
#define ROM 0xc0000000ull
#define ALIAS 0x100000000ull	/* of RAM, for VS mode: it executes nothing from pages of VU mode */
#define VECTOR 0x1000		/* offsets in RAM */
#define CODE 0x1100
#define VALUES 0x1200		/* of x1 to x31 */
#define TABLE 0x2000

#define CORE(field) \
	(KVM_REG_RISCV | KVM_REG_SIZE_U64 | KVM_REG_RISCV_CORE | KVM_REG_RISCV_CORE_REG(field))
#define CSR(field) (KVM_REG_RISCV | KVM_REG_SIZE_U64 | KVM_REG_RISCV_CSR | KVM_REG_RISCV_CSR_REG(field))
#define SUM (1ull << 18)
#define FS (3ull << 13)
#define VS (3ull << 9)

static const struct setup setups[] = {
	{ "bare", HOLE, 0, 0, 0, 0 },
	{ "sv39", HOLE, 0, 1, 0, 0 },
	{ "bare-misaligned", HOLE + 1, 0, 0, 0, 0 },
	{ "sv39-misaligned", HOLE + 1, 0, 1, 0, 0 },
	{ "read-only", ROM, 0, 1, 0, 0 },
	{ "user", HOLE, 0, 1, 1, 0 },
	{ }
};

static int word_size(uint32_t word)
{
	return (word & 3) == 3 ? 4 : 2;
}

static void give_option(const struct machine *m)
{
	(void)m;
}

static int inject(const struct machine *m)
{
	(void)m;
	return 0;
}

static int has_vector(const struct machine *m)
{
	uint64_t isa = 0;
	struct kvm_one_reg reg = {
		.id = KVM_REG_RISCV | KVM_REG_SIZE_U64 | KVM_REG_RISCV_CONFIG | KVM_REG_RISCV_CONFIG_REG(isa),
		.addr = (uintptr_t)&isa,
	};

	return ioctl(m->vcpu, KVM_GET_ONE_REG, &reg) == 0 && isa >> ('v' - 'a') & 1;
}

static void prepare(const struct machine *m)
{
	static const uint32_t vector[] = {
		0x14202e73,			/* csrr t3, scause */
		0x14302ef3,			/* csrr t4, stval */
		0x00000f37 | TRAP,		/* lui t5, TRAP */
		0x01cf3023,			/* sd t3, 0(t5) */
		0x01df3423,			/* sd t4, 8(t5) */
		0x0000006f,			/* j . */
	};
	struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_RUNNABLE };

	if (ioctl(m->vcpu, KVM_SET_MP_STATE, &state) < 0 && errno != EINVAL)
		die("KVM_SET_MP_STATE");
	put(m, VECTOR, vector, sizeof(vector));
}

static uint64_t body;	/* where the instruction under test lies */

/* a0 and sp: the operand's address; t0: a stride; s1: DONE; v0: a mask of ones; v2: indices of 0. */
static void enter(const struct machine *m, const struct setup *setup)
{
	/* Leaves: valid, readable, writable, executable, accessed, dirty; U for all but the alias. */
	const uint64_t leaf = 0xcf | (setup->user ? 0x10 : 0);
	const uint64_t table[] = { leaf, 0x40000000 >> 2 | leaf, RAM >> 2 | leaf, ROM >> 2 | leaf, RAM >> 2 | 0xcf };
	uint64_t values[32];
	uint32_t prologue[40];
	int n = 0;

	for (int i = 0; i < 32; i++)
		values[i] = 0x1111111111111111ull * (i & 15);
	values[10] = values[2] = setup->operand;
	values[5] = 8;
	values[9] = DONE;
	put(m, VALUES, values, sizeof(values));
	put(m, TABLE, table, sizeof(table));
	prologue[n++] = 0x00000f97;						/* auipc t6, 0 */
	if (has_vector(m)) {
		prologue[n++] = 0xcd817057;					/* vsetivli zero, 2, e64, m1, ta, ma */
		prologue[n++] = 0x5e0fb057;					/* vmv.v.i v0, -1 */
		prologue[n++] = 0x5e003157;					/* vmv.v.i v2, 0 */
	}
	for (int i = 1; i < 32; i++)						/* ld xi, VALUES + 8i - CODE(t6) */
		prologue[n++] = (uint32_t)(VALUES - CODE + 8 * i) << 20 | 31 << 15 | 3 << 12 | i << 7 | 3;
	put(m, CODE, prologue, n * 4);
	body = CODE + n * 4;
	set_register(m, CSR(stvec), (setup->user ? ALIAS : RAM) + VECTOR);
	set_register(m, CSR(satp), setup->paging ? 8ull << 60 | (RAM + TABLE) >> 12 : 0);
}

static void load(const struct machine *m, const struct setup *setup, uint32_t word)
{
	const uint32_t after[] = { 0x0094b023, 0x0000006f };	/* sd s1, 0(s1); j . */
	int size = word_size(word);

	put(m, body, &word, size);
	put(m, body + size, after, sizeof(after));
	__asm__ volatile("fence.i" ::: "memory");
	set_register(m, CSR(sstatus), FS | VS | SUM);
	set_register(m, CORE(regs.pc), RAM + CODE);
	set_register(m, CORE(mode), setup->user ? 0 : 1);
}
