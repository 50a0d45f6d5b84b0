/* arm64's part of trap_sweep.c: a vCPU at EL1h or EL0t, stage 1 off or an identity map of 1 GiB blocks. */
#define RAM 0x40000000ull
#define ROM 0x80000000ull
#define VECTORS 0x800	/* offsets in RAM; VBAR_EL1 is aligned to 2 KiB */
#define CODE 0x1800
#define VALUES 0x1c00	/* of x0 to x30 */
#define TABLES 0x10000	/* two tables: of EL1, and of EL0 */

#define CORE(field) (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(field))
#define VBAR_EL1 ARM64_SYS_REG(3, 0, 12, 0, 0)
#define CPACR_EL1 ARM64_SYS_REG(3, 0, 1, 0, 2)
#define SCTLR_EL1 ARM64_SYS_REG(3, 0, 1, 0, 0)
#define MAIR_EL1 ARM64_SYS_REG(3, 0, 10, 2, 0)
#define TCR_EL1 ARM64_SYS_REG(3, 0, 2, 0, 2)
#define TTBR0_EL1 ARM64_SYS_REG(3, 0, 2, 0, 0)

static const struct setup setups[] = {
	{ "mmu-off", HOLE, 0, 0, 0, 0 },
	{ "mmu-on", HOLE, 0, 1, 0, 0 },
	{ "mmu-off-nisv", HOLE, 1, 0, 0, 0 },
	{ "mmu-on-nisv", HOLE, 1, 1, 0, 0 },
	{ "read-only", ROM, 0, 1, 0, 0 },
	{ "read-only-nisv", ROM, 1, 1, 0, 0 },
	{ "el0", HOLE, 0, 1, 1, 0 },
	{ "el0-nisv", HOLE, 1, 1, 1, 0 },
	{ "mmu-off-abort", HOLE, 1, 0, 0, 1 },
	{ "mmu-on-abort", HOLE, 1, 1, 0, 1 },
	{ "mmu-off-misaligned-nisv", HOLE + 1, 1, 0, 0, 0 },
	{ "mmu-on-misaligned-nisv", HOLE + 1, 1, 1, 0, 0 },
	{ }
};

static int word_size(uint32_t word)
{
	(void)word;
	return 4;
}

static void give_option(const struct machine *m)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ARM_NISV_TO_USER };

	if (ioctl(m->vm, KVM_ENABLE_CAP, &cap) < 0)
		die("KVM_CAP_ARM_NISV_TO_USER");
}

/* An external abort, as QEMU does since 5.1. */
static int inject(const struct machine *m)
{
	struct kvm_vcpu_events events = { .exception.ext_dabt_pending = 1 };

	return m->run->exit_reason == KVM_EXIT_ARM_NISV && ioctl(m->vcpu, KVM_SET_VCPU_EVENTS, &events) == 0;
}

static void prepare(const struct machine *m)
{
	static const uint32_t vector[] = {
		0xd5385214,			/* mrs x20, esr_el1 */
		0xd5386015,			/* mrs x21, far_el1 */
		0xd2a00016 | (TRAP >> 16) << 5,	/* mov x22, TRAP */
		0xf90002d4,			/* str x20, [x22]: not a pair, which has no syndrome */
		0xf90006d5,			/* str x21, [x22, #8] */
		0x14000000,			/* b . */
	};
	/* Block descriptors: access flag, inner shareable, attribute 0; AP in bits 7 and 6. */
	const uint64_t block = 0x701, el0 = 1 << 6, read_only = 1 << 7;
	const uint64_t of_el1[] = { block, RAM | block, ROM | block };
	const uint64_t of_el0[] = { block | el0, RAM | block | el0 | read_only, ROM | block | el0 };
	struct kvm_vcpu_init init;
	int sve = KVM_ARM_VCPU_SVE;

	if (ioctl(m->vm, KVM_ARM_PREFERRED_TARGET, &init) < 0)
		die("KVM_ARM_PREFERRED_TARGET");
	init.features[0] |= 1u << KVM_ARM_VCPU_PSCI_0_2;
	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0)
		init.features[0] |= 1u << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1u << KVM_ARM_VCPU_PTRAUTH_GENERIC;
	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_SVE) > 0)
		init.features[0] |= 1u << KVM_ARM_VCPU_SVE;
	if (ioctl(m->vcpu, KVM_ARM_VCPU_INIT, &init) < 0)
		die("KVM_ARM_VCPU_INIT");
	if (init.features[0] & 1u << KVM_ARM_VCPU_SVE && ioctl(m->vcpu, KVM_ARM_VCPU_FINALIZE, &sve) < 0)
		die("KVM_ARM_VCPU_FINALIZE");
	for (int i = 0; i < 16; i++)
		put(m, VECTORS + i * 0x80, vector, sizeof(vector));
	put(m, TABLES, of_el1, sizeof(of_el1));
	put(m, TABLES + 0x1000, of_el0, sizeof(of_el0));
	set_register(m, VBAR_EL1, RAM + VECTORS);
	set_register(m, CPACR_EL1, 3 << 20 | 3 << 16);		/* FP and SVE are not trapped */
	set_register(m, MAIR_EL1, 0xff);			/* attribute 0: Normal, write-back */
	/* 39 bits of TTBR0 in 4 KiB granules, cached; none of TTBR1; IPAs of 40 bits */
	set_register(m, TCR_EL1, 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2ull << 32);
	set_register(m, CORE(sp_el1), HOLE);
	set_register(m, CORE(regs.sp), HOLE);
}

static uint64_t body;	/* where the instruction under test lies */

/* x0: the operand's address; x1: the next page; x2: an index of 0; x5: a length; x29: DONE. */
static void enter(const struct machine *m, const struct setup *setup)
{
	uint64_t values[31];
	uint32_t prologue[32];
	int n = 0;

	for (int i = 0; i < 31; i++)
		values[i] = 0x1111111111111111ull * (i & 15);
	values[0] = setup->operand;
	values[1] = setup->operand + 0x1000;
	values[2] = 0;
	values[5] = 16;
	values[29] = DONE;
	put(m, VALUES, values, sizeof(values));
	prologue[n++] = 0x10000000 | (VALUES - CODE) / 4 << 5 | 30;			/* adr x30, values */
	for (int i = 0; i < 30; i += 2)
		prologue[n++] = 0xa9400000 | i << 15 | (i + 1) << 10 | 30 << 5 | i;	/* ldp xi, xi+1, [x30, #8i] */
	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_SVE) > 0) {
		prologue[n++] = 0x2518e3e0;						/* ptrue p0.b */
		prologue[n++] = 0x05e03800;						/* mov z0.d, x0 */
		prologue[n++] = 0x25f8c002;						/* mov z2.d, #0 */
		prologue[n++] = 0x2538c004;						/* mov z4.b, #0 */
	}
	put(m, CODE, prologue, n * 4);
	body = CODE + n * 4;
	set_register(m, TTBR0_EL1, RAM + TABLES + (setup->user ? 0x1000 : 0));
	/* RES1 bits; M, C, I; what EL0 may do: cache maintenance (UCI), DC ZVA (DZE), CTR_EL0 (UCT) */
	set_register(m, SCTLR_EL1, setup->paging ? 0x30d00800ull | 1 << 26 | 1 << 15 | 1 << 14 | 0x1005 : 0x30d00800ull);
}

static void load(const struct machine *m, const struct setup *setup, uint32_t word)
{
	uint32_t code[] = { word, 0xf90003bd, 0x14000000 };	/* str x29, [x29]; b . */

	put(m, body, code, sizeof(code));
	__builtin___clear_cache((char *)m->ram + CODE, (char *)m->ram + body + sizeof(code));
	set_register(m, CORE(regs.pc), RAM + CODE);
	set_register(m, CORE(regs.pstate), setup->user ? 0x3c0 : 0x3c5);	/* EL0t or EL1h, DAIF masked */
}
