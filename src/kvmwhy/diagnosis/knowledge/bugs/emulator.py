"""What KVM's instruction emulator learned late: the same code runs on a newer host kernel."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.kernel_version import Affected
from kvmwhy.diagnosis.knowledge.predicate import Shape

_ACCESSORS = "Use the platform's accessors for device memory (readl and writel, memcpy_toio), not plain memcpy."
_NOT_OLD = "emulator-no-handler: instructions that no kernel emulates."

BUGS: Final = (
    Bug(
        id="bug-emulator-avx-moves",
        title="Host kernels before 6.19 cannot emulate AVX moves",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape(
            "internal-error",
            1,
            encoding=("vex",),
            mnemonic=(
                "vmovups",
                "vmovupd",
                "vmovaps",
                "vmovapd",
                "vmovdqu",
                "vmovdqa",
                "vmovntps",
                "vmovntpd",
                "vmovntdq",
            ),
        ),
        versions=Affected(fixed="6.19"),
        what=(
            "Any instruction with a VEX prefix on emulated memory stopped the VM until 6.19, which knows the plain"
            " moves: what compilers and C libraries make of a memcpy."
        ),
        fix=Fix(
            guest=f"{_ACCESSORS} Or build that file with -mno-avx.",
            vmm="Back the region by RAM, or hide AVX from the guest's CPUID.",
            host="Update the host's kernel to 6.19 (7.1 if VMOVNTDQA is used).",
        ),
        references=(
            'ebec25438f3d ("KVM: x86: Enable support for emulating AVX MOV instructions") (in v6.19)',
            'f0585a714a75 ("KVM: x86: Add emulator support for decoding VEX prefixes") (in v6.19)',
        ),
        example="suberror 1, bytes c5 fe 6f 06, EPT violation, on 6.12",
        confused_with=_NOT_OLD,
    ),
    Bug(
        id="bug-silent-avx-moves",
        title="A program of the guest died of SIGILL because host kernels before 6.19 cannot emulate AVX moves",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape(
            "other", silent=True, encoding=("vex",), mnemonic=("vmovups", "vmovdqu", "vmovdqa", "vmovntdq", "vmovaps")
        ),
        versions=Affected(fixed="6.19"),
        what=(
            "In user mode KVM tells nobody: the program gets #UD. SPDK met it when memset() on a controller memory"
            " buffer, which QEMU emulates, used AVX2."
        ),
        fix=Fix(
            guest="Copy to device memory with 8-byte accesses, not with memset or memcpy.",
            vmm="Back the region by RAM, hide AVX, or set KVM_CAP_EXIT_ON_EMULATION_FAILURE to hear of it.",
            host="Update the host's kernel to 6.19.",
        ),
        references=("https://github.com/spdk/spdk/issues/1362", "ebec25438f3d (in v6.19)"),
        example="kvm_emulate_insn … c5 fe 7f 07 (prot64) failed, then kvm_inj_exception: #UD",
        confused_with="A CPU model without AVX: then the program dies at its first AVX instruction, wherever that is.",
    ),
    Bug(
        id="bug-emulator-movntdqa",
        title="Host kernels before 6.19 cannot emulate MOVNTDQA",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mnemonic=("movntdqa", "vmovntdqa")),
        versions=Affected(fixed="6.19"),
        what=(
            "MOVNTDQA is made for reading device memory fast, and graphics drivers use it so. KVM has it since 6.19; in"
            " 6.19 and 7.0 it stored the register instead of loading it, so take 7.1."
        ),
        fix=Fix(guest=_ACCESSORS, vmm="Back the region by RAM.", host="Update the host's kernel to 7.1."),
        references=('c57d9bafbd0b ("KVM: x86: Add support for emulating MOVNTDQA") (in v6.19)',),
        example="suberror 1, bytes 66 0f 38 2a 06, on 6.8",
        confused_with=_NOT_OLD,
    ),
    Bug(
        id="bug-emulator-clflushopt",
        title="Old host kernels cannot emulate CLFLUSHOPT",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mnemonic=("clflushopt",)),
        versions=Affected(fixed="5.10", stable=("5.4.79", "4.19.159", "4.14.208", "4.4.245")),
        what=(
            "Flushing a line of emulated memory has no effect, and KVM treated CLFLUSH so; the newer CLFLUSHOPT was"
            " missing and stopped the VM. Drivers for persistent memory and graphics flush like that."
        ),
        fix=Fix(
            vmm="Hide clflushopt from the guest's CPUID.", host="Update the host's kernel to 5.10, 5.4.79 or 4.19.159."
        ),
        references=('51b958e5aeb1 ("KVM: x86: clflushopt should be treated as a no-op by emulation") (in v5.10)',),
        example="suberror 1, bytes 66 0f ae 38, on 4.18",
        confused_with="CLWB (66 0f ae /6), which no kernel emulates.",
    ),
    Bug(
        id="bug-emulator-movbe16",
        title="Host kernels before 6.9 cannot emulate MOVBE with 16-bit operands",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape(
            "internal-error",
            1,
            mnemonic=("movbe",),
            bytes=(b"\x66\x0f\x38\xf0", b"\x66\x0f\x38\xf1", b"\x66\x41\x0f", b"\x66\x44\x0f"),
        ),
        versions=Affected(fixed="6.9"),
        what=(
            "KVM emulates MOVBE, but its table took the 66 prefix for another instruction. Compilers emit the 16-bit"
            " form for big-endian fields of virtio and network devices."
        ),
        fix=Fix(vmm="Hide movbe from the guest's CPUID.", host="Update the host's kernel to 6.9."),
        references=('"KVM: x86/emulator: emulate movbe with operand-size prefix" (in v6.9)',),
        example="suberror 1, bytes 66 0f 38 f0 06, on 6.1",
        confused_with="MOVBE with 32- or 64-bit operands, which every kernel of the last ten years emulates.",
    ),
    Bug(
        id="bug-emulator-cet-branches",
        title="KVM from 6.18 on refuses to emulate calls, returns and interrupts while CET is on",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape(
            "internal-error",
            1,
            mnemonic=("call", "ret", "retf", "jmp", "int", "int3", "iret", "iretd", "iretq"),
            registers=(("cr4", 1 << 23, 1 << 23),),
        ),
        versions=Affected(since="6.18"),
        what=(
            "KVM's emulator knows neither shadow stacks nor indirect-branch tracking. Since guests can have them (6.18)"
            " it refuses the branches that take part, where older kernels would have carried them out wrongly."
        ),
        fix=Fix(
            guest="Keep stacks and branch targets out of device memory.",
            vmm="Hide CET from the guest's CPUID.",
        ),
        references=('"KVM: x86: Don\'t emulate instructions affected by CET features" (in v6.18)',),
        example="suberror 1, bytes ff 10 (call [rax]) with CR4.CET, on 6.18",
        confused_with="emulator-gives-up: far branches, which fail without CET as well.",
    ),
    Bug(
        id="bug-old-kvm-sse-moves",
        title="An old or forked KVM without the SSE moves",
        origin="host-kernel",
        weight=0.5,  # "since {} only" says the same of the kernel; who was mended differs from report to report
        family="emulator-gap",
        shape=Shape(
            "internal-error",
            1,
            layout=("none",),
            outcome=("handler",),
            mnemonic=("movntdq", "movntps", "movntpd", "movaps", "movapd", "movups", "movupd", "movdqa", "movdqu"),
        ),
        at_most="possible",
        what=(
            "Linux emulates these moves on device memory for many years. Kernels of 2014 and before, and the port in"
            " illumos (SmartOS), lack some: Windows clears the screen with MOVNTDQ and stops, or crawls, there."
        ),
        fix=Fix(
            vmm="Give the guest another display device, whose memory is RAM.",
            host="Update the host's kernel; on SmartOS use bhyve.",
        ),
        references=("https://github.com/TritonDataCenter/illumos-kvm/issues/15",),
        example="suberror 1 without data, bytes 66 0f e7 01, on SmartOS",
        confused_with="emulator-gives-up: a handler that exists, and another reason to fail.",
        corpus=("077-illumos-win2008-movntdq-efail",),
    ),
    Bug(
        id="bug-x87-mmio",
        title="A 32-bit driver uses x87 for 64-bit device registers",
        origin="guest-code",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mnemonic=("fild", "fistp"), mode=("prot32",)),
        what=(
            "FILD and FISTP move 64 bits at once, and old 32-bit drivers rely on it. KVM never emulated them: of x87 it"
            " knows three control instructions."
        ),
        fix=Fix(
            guest="Use two 32-bit accesses, CMPXCHG8B, or MOVQ of MMX, which KVM has.", vmm="Back the region by RAM."
        ),
        references=("arch/x86/kvm/emulate.c: escape_d9, escape_db, escape_dd",),
        example="suberror 1, bytes df 2f (fild qword ptr [edi]) in 32-bit code",
        confused_with=_NOT_OLD,
    ),
    Bug(
        id="bug-movdir-doorbell",
        title="The guest rings a doorbell with MOVDIRI, MOVDIR64B or ENQCMD, and the doorbell is emulated",
        origin="guest-code",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mnemonic=("movdiri", "movdir64b", "enqcmd", "enqcmds")),
        what=(
            "These stores write 64 bytes in one transaction, to accelerators such as DSA. KVM has no handler, and could"
            " not keep the transaction whole: an emulated device sees at most 8 bytes at once."
        ),
        fix=Fix(
            guest="Use the device's plain doorbell.",
            vmm="Map the portal of the real device into the guest, or hide the instructions from CPUID.",
        ),
        references=("arch/x86/kvm/emulate.c: opcode_map_0f_38 has neither f8 nor f9",),
        example="suberror 1, bytes 66 0f 38 f8 06",
        confused_with=_NOT_OLD,
    ),
    Bug(
        id="bug-emulator-hint-nops",
        title="KVM's emulator stops at hints that every CPU may ignore",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mnemonic=("cldemote", "rdsspd", "rdsspq")),
        what=(
            "CLDEMOTE and RDSSP are NOPs to CPUs that do not know them. KVM's table knows the opcodes since 5.8, but"
            " nothing carries them out, so the emulation fails all the same."
        ),
        fix=Fix(
            guest="Build code that KVM must emulate with -fcf-protection=none and without CLDEMOTE.",
            vmm="Hide cldemote and shstk from the guest's CPUID.",
        ),
        references=('34d2618d3318 ("KVM: x86: emulate reserved nops from 0f/18 to 0f/1f") (in v5.8)',),
        example="suberror 1, bytes 0f 1c 00",
        confused_with="bug-seabios-endbr: ENDBR, the most frequent of these.",
    ),
    Bug(
        id="bug-cmpxchg16b-not-ram",
        title="A kernel's allocator works in memory that is emulated: CMPXCHG16B cannot be",
        origin="guest-code",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mnemonic=("cmpxchg16b",)),
        what=(
            "KVM emulates CMPXCHG8B but gives up on the 16-byte form. Drivers do not use it on device registers; memory"
            " allocators and lock-free lists do, so what the guest takes for RAM is emulated, or a pointer is wrong."
        ),
        fix=Fix(
            guest="Do not online device memory as system RAM.",
            vmm="Back the region by RAM instead of emulating it access by access.",
        ),
        references=("arch/x86/kvm/emulate.c: em_cmpxchg8b",),
        example="suberror 1, bytes f0 48 0f c7 0f",
        confused_with="emulator-gives-up: other handlers with limits.",
    ),
)
