"""The families: every form that the newest measured kernel carries out wrongly, or never finishes, by its cause.

Places are those of Linux 7.3. What the manuals say is from Intel's SDM, volume 2, and AMD's APM, volume 3.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.emulator.faults import guests
from kvmwhy.emulator.faults.family import Family, SetAside

_X86: Final = "KVM: x86: emulator"
_NOT_FOUND: Final = (
    "No earlier report and no fix was found, in stored copies of mailing lists, of bug trackers and of the source up"
    " to 7.3. The archives themselves could not be asked."
)


def _forms(mode: str, *codes: str) -> tuple[tuple[str, str], ...]:
    return tuple((mode, code) for code in codes)


_TZCNT_LZCNT: Final = Family(
    id="tzcnt-lzcnt",
    arch="x86",
    title="TZCNT and LZCNT are carried out as BSF and BSR",
    prefix=_X86,
    manual=(
        "TZCNT (F3 0F BC) and LZCNT (F3 0F BD) count bits: the result for a source of 0 is the operand's size, CF"
        " says that the source is 0, and ZF that the result is. LZCNT counts from the top, where BSR gives an"
        " index."
    ),
    does=(
        "KVM does BSF and BSR. For a source of 0 the destination stays as it was, CF and ZF are those of BSF, and"
        " the result of LZCNT is wrong for every source: LZCNT of 0x10000 gives 16 instead of 15."
    ),
    place="arch/x86/kvm/emulate.c: twobyte_table, entries 0xbc and 0xbd (em_bsf_c, em_bsr_c)",
    why=(
        "The two entries do not depend on the prefix, so that F3 is ignored. POPCNT (F3 0F B8), next to them, has"
        " no entry and fails, as it should."
    ),
    harm=(
        "A guest that counts bits straight in a device's register. Compilers make this of __builtin_ctz() and"
        " __builtin_clz() on volatile memory from -mbmi and -mlzcnt on (-march=haswell, x86-64-v3); accessors such"
        " as readl() load into a register first and are not affected. GCC writes `rep bsf` for __builtin_ctz()"
        " also without -mbmi, which is harmless while the source is not 0. The result is wrong without a sign of"
        " it. Where KVM carries out whole parts of a guest (kvm_intel.unrestricted_guest=0, invalid guest state,"
        " kvm_pvm), it is wrong on RAM and registers as well."
    ),
    known=_NOT_FOUND,
    suggestion=(
        "Split both entries by prefix, as those of MOVBE are (GP), with handlers for F3 that follow the host's"
        " BMI1 and LZCNT; or with no handler for F3, so that userspace gets an internal error instead of a wrong"
        " result. Groups by prefix refuse 66 together with F2 or F3, so that 16-bit TZCNT and LZCNT, and BSF and"
        " BSR with 66 F2, fail then: those need more."
    ),
    tried="right",
    forms=(
        *_forms("prot16", "f3 0f bc 17", "f3 0f bc d0", "66 f3 0f bc 17", "66 f3 0f bc d0"),
        *_forms("prot16", "f3 0f bd 17", "f3 0f bd d0", "66 f3 0f bd 17", "66 f3 0f bd d0"),
        *_forms("prot32", "f3 0f bc 13", "f3 0f bc d0", "66 f3 0f bc 13", "66 f3 0f bc d0"),
        *_forms("prot32", "f3 0f bd 13", "f3 0f bd d0", "66 f3 0f bd 13", "66 f3 0f bd d0"),
        *_forms("long64", "f3 0f bc 13", "f3 0f bc 03", "f3 0f bc d0", "f3 48 0f bc 13", "f3 48 0f bc d0"),
        *_forms("long64", "66 f3 0f bc 13", "66 f3 0f bc 03", "66 f3 0f bc d0"),
        *_forms("long64", "f3 0f bd 13", "f3 0f bd 03", "f3 0f bd d0", "f3 48 0f bd 13", "f3 48 0f bd d0"),
        *_forms("long64", "66 f3 0f bd 13", "66 f3 0f bd 03", "66 f3 0f bd d0"),
    ),
    guests=guests.BIT_COUNTS,
    also="In real mode KVM does the same; there the atlas has no comparison, as the CPUs of the two benches differ.",
    silicon="TZCNT of 0 gives 64 with CF, LZCNT of 0x10000 gives 15, run in user mode on an Intel Xeon.",
)
_SREG_STORE: Final = Family(
    id="selector-store-rexw",
    arch="x86",
    title="MOV from a segment register, SLDT and STR with REX.W write 8 bytes to memory",
    prefix=_X86,
    manual=(
        "A selector that goes to memory is 16 bits wide, whatever the operand size; REX.W only changes what a"
        " register gets."
    ),
    does=(
        "KVM writes 8 bytes, the selector and six zeros: memory behind it, or the register next to it in a"
        " device, is overwritten. SLDT and STR read 8 bytes first, too."
    ),
    place="arch/x86/kvm/emulate.c: em_store_sreg()",
    why=(
        "It reduces a store of 4 bytes to 2, and leaves one of 8 as it is. That SLDT and STR read comes from"
        " their entries in group6, which have no Mov flag."
    ),
    harm=(
        "Such stores to a device are rare: assemblers leave REX.W out. Code that saves selectors with `movq %fs,"
        " mem`, or `rex.w sldt mem`, meets it where KVM emulates it; a page table that KVM guards is another such"
        " place."
    ),
    known=_NOT_FOUND,
    suggestion=(
        "Set dst.bytes to 2 for every OP_MEM destination in em_store_sreg(), and give SLDT and STR the Mov flag."
    ),
    tried="right",
    forms=_forms("long64", "48 8c 23", "48 0f 00 03", "48 0f 00 0b"),
    guests=guests.SELECTOR_STORES,
    silicon="MOV from FS and SLDT, both with REX.W, write 2 bytes, run in user mode on an Intel Xeon.",
)
_LOST_STORES: Final = Family(
    id="mmio-stores-lost",
    arch="x86",
    title="PUSHA and far CALL lose all stores to MMIO but the last",
    prefix=_X86,
    manual="PUSHA stores eight registers, far CALL stores CS and the return address.",
    does="KVM gives userspace KVM_EXIT_MMIO for the last of these stores only. The others never leave the kernel.",
    place="arch/x86/kvm/x86.c: emulator_read_write(), by em_pusha() and em_call_far() in arch/x86/kvm/emulate.c",
    why=(
        "A write to MMIO lets emulation continue and leaves its data in vcpu->mmio_fragments for the exit that"
        " follows. The next write of the same instruction sets mmio_nr_fragments to 0 and puts itself in their"
        " place."
    ),
    harm=(
        "A stack in a device's memory: a hobby kernel or firmware whose SP leads there by mistake, or a frame"
        " buffer used as a stack. Then the stack's contents are wrong without a sign of it, which is harder to see"
        " than a failure."
    ),
    known=_NOT_FOUND,
    suggestion=(
        "Let a second write of an instruction that meets pending MMIO return X86EMUL_UNHANDLEABLE, so that"
        " userspace gets an internal error; or queue more fragments."
    ),
    tried="gives up",
    forms=(
        *_forms("real16", "60", "66 60", "9a 00 18 00 00", "66 9a 00 18 00 00 00 00"),
        *_forms("prot16", "60", "66 60", "9a 00 18 20 00", "66 9a 00 18 00 00 20 00"),
        *_forms("prot32", "60", "66 60", "9a 00 18 00 00 08 00", "66 9a 00 18 08 00"),
    ),
    guests=guests.PUSHES,
)
_POPS: Final = Family(
    id="mmio-pops-repeated",
    arch="x86",
    title="POPA, far RET and IRET from MMIO read the wrong addresses and leave RSP too high",
    prefix=_X86,
    manual="The stack pointer goes up once for each value that is read, and the values come from adjacent addresses.",
    does=(
        "KVM starts the instruction over after each read that goes to userspace, with the RSP that it had already"
        " raised. Far RET leaves RSP too high by one operand; IRET in real mode takes FLAGS from the wrong"
        " address; POPA of 16 bits reads at +0, +2, +6, +14, +24, +36 and +50, so that RBX, RBP and others get"
        " values from other addresses."
    ),
    place=(
        "arch/x86/kvm/emulate.c: emulate_pop(), by em_popa(), em_ret_far() and emulate_iret_real(); x86_emulate_insn()"
    ),
    why=(
        "A read from MMIO returns X86EMUL_IO_NEEDED, and the instruction is emulated again from its beginning"
        " when userspace has answered. The reads before are served from ctxt->mem_read, but what they did to"
        " ctxt->_regs was kept: without write-back the register cache is neither written to the vCPU nor dropped."
    ),
    harm=(
        "A stack where there is no memory, as with a hobby kernel or firmware whose SP leads there by mistake."
        " POP, near RET and LEAVE are right there, so that code runs on for a while and then goes astray."
    ),
    known=_NOT_FOUND,
    suggestion=(
        "Remember RSP when the instruction begins, and put it back where a pop returns X86EMUL_IO_NEEDED. To drop"
        " the whole register cache there would be wrong: decoding has marked the destination in it as written."
    ),
    tried="right",
    forms=(
        *_forms("real16", "61", "66 61", "ca 10 00", "66 ca 10 00", "cb", "66 cb", "cf", "66 cf"),
        *_forms("prot16", "61", "66 61"),
        *_forms("prot32", "61", "66 61"),
        *_forms("long64", "ca 10 00", "ca 03", "48 ca 10 00", "f2 ca 03", "f3 ca 03", "66 ca 10 00", "66 ca 03"),
        *_forms("long64", "cb", "cb 03", "48 cb", "f2 cb 03", "f3 cb 03", "66 cb", "66 cb 03"),
    ),
    guests=guests.POPS,
    also=(
        "Far RET in 16- and 32-bit protected mode goes the same way; there the atlas has no comparison. The forms"
        " CA 03 have a constant above 7fff, which QEMU's CPU takes for a signed one: they differ for that reason,"
        " too."
    ),
)
_ENTER: Final = Family(
    id="enter-stack-width",
    arch="x86",
    title="ENTER pushes RBP in the stack's width instead of the operand's",
    prefix=_X86,
    manual=(
        "ENTER pushes the frame pointer with the operand size, and sets as much of it; the width of the stack"
        " says only how wide the stack pointer is."
    ),
    does=(
        "KVM pushes with the width of the stack, and sets as much of RBP. Where the two differ, RSP, RBP and what"
        " lies on the stack differ from a CPU's."
    ),
    place="arch/x86/kvm/emulate.c: em_enter()",
    why=(
        "It calls emulate_push() with stack_size(ctxt) where LEAVE, its counterpart, pops with ctxt->op_bytes;"
        " RBP is assigned with stack_mask(ctxt)."
    ),
    harm=(
        "ENTER with a 66 prefix in 16-bit code (`enterl`), or in a 16-bit code segment with a 32-bit stack, as"
        " some DOS extenders and boot loaders have; and only where KVM emulates it: a stack without memory, or"
        " code that KVM carries out as a whole (kvm_intel.unrestricted_guest=0, where big real mode is emulated)."
        " ENTER and LEAVE of KVM do not match then."
    ),
    known=_NOT_FOUND,
    suggestion="Push with ctxt->op_bytes, and assign RBP with a mask of that size.",
    tried="right",
    forms=(*_forms("real16", "66 c8 10 00 00"), *_forms("prot16", "c8 10 00 00")),
    guests=guests.FRAMES,
    also=(
        "ENTER with a 66 prefix in 32- and 64-bit code is wrong as well: KVM stores 4 and 8 bytes. There the"
        " atlas has no comparison, as the CPUs of the two benches differ."
    ),
    silicon=(
        "ENTER with a 66 prefix in 64-bit mode stores 2 bytes and changes 16 bits of RBP, run in user mode on an"
        " Intel Xeon."
    ),
)
_NO_EXIT: Final = Family(
    id="descriptor-access-never-ends",
    arch="x86",
    title="SGDT, SIDT, LGDT, LIDT, FXSAVE and FXRSTOR on MMIO never end",
    prefix=_X86,
    manual="These instructions load from memory or store to it like others; a device there gets the accesses.",
    does=(
        "KVM_RUN does not return, and the vCPU makes no progress: the guest faults at the same instruction for"
        " ever. LGDT and LIDT give userspace the same read of 2 or 4 bytes again and again."
    ),
    place=(
        "arch/x86/kvm/x86.c: kvm_read_guest_virt_helper() and kvm_write_guest_virt_helper(), by"
        " segmented_read_std() and segmented_write_std() in arch/x86/kvm/emulate.c"
    ),
    why=(
        "The `std` accesses return X86EMUL_IO_NEEDED where there is no memory, and prepare no exit."
        " x86_emulate_insn() takes that for success, x86_emulate_instruction() finds nothing to do in userspace,"
        " leaves RIP where it is, and the guest faults again."
    ),
    harm=(
        "The vCPU's thread takes a whole CPU of the host, and its VMM is never told: no internal error, no line"
        " in a log. A guest whose GDTR lies in a wrong address's place, or that saves FPU state to an unmapped"
        " address in 32-bit code (in 64-bit code FXSAVE fails, as it should), hangs where others would get an"
        " internal error. It harms nobody but the guest."
    ),
    known=(
        "kvm_read_guest_virt() has a FIXME about it: X86EMUL_IO_NEEDED should lead to handle_emulation_failure(),"
        " but its callers were not ready for that. kvm-unit-tests leaves LGDT and LIDT from MMIO out. No report of"
        " the endless loop, and no fix up to 7.3, was found in stored copies of mailing lists and bug trackers."
    ),
    suggestion=(
        "Make segmented_read_std() and segmented_write_std() turn X86EMUL_IO_NEEDED into X86EMUL_UNHANDLEABLE, so"
        " that it becomes an internal error, as kvm_handle_memory_failure() has it for operands of VMX"
        " instructions. Drop SrcMem from LGDT and LIDT, which read by themselves."
    ),
    tried="gives up",
    forms=(
        *_forms("real16", "0f 01 07", "0f 01 0f", "0f 01 17", "0f 01 1f", "0f ae 07", "0f ae 0f"),
        *_forms("real16", "66 0f 01 07", "66 0f 01 0f", "66 0f 01 17", "66 0f 01 1f"),
        *_forms("prot16", "0f 01 07", "0f 01 0f", "0f 01 17", "0f 01 1f", "0f ae 07", "0f ae 0f"),
        *_forms("prot16", "66 0f 01 07", "66 0f 01 0f", "66 0f 01 17", "66 0f 01 1f"),
        *_forms("prot32", "0f 01 03", "0f 01 0b", "0f 01 13", "0f 01 1b", "0f ae 03", "0f ae 0b"),
        *_forms("prot32", "66 0f 01 03", "66 0f 01 0b", "66 0f 01 13", "66 0f 01 1b"),
        *_forms("long64", "0f 01 03", "0f 01 0b", "0f 01 13", "0f 01 1b", "f2 0f 01 03", "f3 0f 01 03"),
        *_forms("long64", "66 0f 01 03", "66 f2 0f 01 03", "66 f3 0f 01 03"),
    ),
    guests=guests.NO_EXITS,
    never_ends=True,
)
_HYPERCALL: Final = Family(
    id="hypercall-patched-elsewhere",
    arch="x86",
    title="The other vendor's hypercall is patched at RIP, without the base of CS",
    prefix="KVM: x86",
    manual=(
        "VMCALL on AMD and VMMCALL on Intel are #UD. KVM rewrites them in the guest's memory to the instruction"
        " that the CPU has, unless KVM_X86_QUIRK_FIX_HYPERCALL_INSN is disabled."
    ),
    does=(
        "Where CS has a base, KVM writes the three bytes to another place: to the linear address RIP instead of"
        " CS.base + RIP. What lay there is lost, the instruction stays as it was, is #UD again, and so on for"
        " ever: KVM_RUN does not return."
    ),
    place="arch/x86/kvm/x86.c: emulator_fix_hypercall()",
    why="It hands kvm_rip_read() to emulator_write_emulated(), which takes a linear address.",
    harm=(
        "16-bit code that makes a hypercall with the wrong instruction, such as real-mode firmware built for one"
        " vendor, or a guest that was migrated. In real mode RIP is below 64 KiB, so that the write lands among"
        " the interrupt vectors, BIOS data or the program's own memory. It also goes on for ever at the cost of a"
        " host CPU, and only a signal ends it."
    ),
    known=_NOT_FOUND + " The selftest fix_hypercall_test runs in 64-bit mode, where the base of CS is 0.",
    suggestion="Use kvm_get_linear_rip(vcpu).",
    tried="right",
    forms=(*_forms("real16", "0f 01 c1"), *_forms("prot16", "0f 01 c1", "0f 01 d9", "f3 0f 01 d9")),
    guests=guests.HYPERCALLS,
    also=(
        "With a prefix before the instruction (F3 0F 01 D9) the three bytes go over the prefix, and the last byte"
        " stays behind as one of its own: read in the source, and seen once the address was right."
    ),
    never_ends=True,
)
_COMPRESSED: Final = Family(
    id="riscv-c-swsp-c-sdsp",
    arch="riscv64",
    title="C.SWSP and C.SDSP to MMIO fail where bits 11 to 7 are 0",
    prefix="RISC-V: KVM",
    manual=(
        "C.SWSP and C.SDSP store a register at an offset from SP. Bits 12 to 7 are the offset; unlike C.LWSP and"
        " C.LDSP they have no destination that must not be x0."
    ),
    does="With bits 11 to 7 all 0 (offset 0, or 32), KVM_RUN fails with EOPNOTSUPP. Other offsets are carried out.",
    place="arch/riscv/kvm/vcpu_insn.c: kvm_riscv_vcpu_mmio_store()",
    why="It checks (insn >> SH_RD) & 0x1f as kvm_riscv_vcpu_mmio_load() does for loads.",
    harm=(
        "A store through SP to a device. Compilers use SP for the stack alone, so that it takes a stack without"
        " memory, or assembly that borrows SP. A CPU that hands KVM the instruction transformed (HTINST) hides it:"
        " there KVM sees an SW or SD. The VMM gets an error from KVM_RUN, which ends most of them."
    ),
    known=(
        'The same check was removed from arch/riscv/kernel/traps_misaligned.c by commit 22e0eb04837a ("riscv: fix'
        ' misaligned access handling of C.SWSP and C.SDSP"), after OpenSBI\'s ec0559eb315b ("lib:'
        ' sbi_misaligned_ldst: Fix handling of C.SWSP and C.SDSP"). KVM has it still in 7.3; no report about KVM'
        " was found."
    ),
    suggestion="Remove the check from both stores.",
    forms=(("riscv64", "c032"), ("riscv64", "d032"), ("riscv64", "e032"), ("riscv64", "f032")),
    stores=guests.COMPRESSED_STORES,
)

FAMILIES: Final = (
    _TZCNT_LZCNT,
    _SREG_STORE,
    _LOST_STORES,
    _POPS,
    _ENTER,
    _NO_EXIT,
    _HYPERCALL,
    _COMPRESSED,
)

_BENCH_GROUP_11: Final = tuple(
    ("long64", f"{opcode} {modrm:02x}") for opcode in ("c6", "c7") for modrm in range(0x0B, 0x40, 8)
)
# Where the comparison found an exception that the CPU of the bench does not give, and why none is in a family.
SET_ASIDE: Final = (
    SetAside(
        (
            "Asked by forced emulation in real mode, where KVM gives #UD for all that it cannot decode: what fails"
            " looks like that."
        ),
        technique="forced",
    ),
    SetAside(
        (
            "No instruction: opcodes C6 and C7 with another ModRM.reg than 0 are #UD, as KVM has it. QEMU's CPU does"
            " not check it."
        ),
        _BENCH_GROUP_11,
    ),
    SetAside(
        (
            "XBEGIN and XABORT are #UD by KVM, also where CPUID offers RTM. They have no operand in memory, so that"
            " KVM meets them only where it carries out a guest as a whole."
        ),
        (
            *_forms("prot16", "c6 f8 05", "66 c7 f8 39 00 00 00"),
            *_forms("prot32", "c6 f8 05", "c7 f8 3a 00 00 00", "66 c7 f8 3b 00"),
            *_forms("long64", "c6 f8 05", "c7 f8 3a 00 00 00", "66 c7 f8 3b 00"),
        ),
    ),
)
