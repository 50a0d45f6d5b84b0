"""Model-specific registers that VMMs load with KVM_SET_MSRS: name, what it is for, who must offer it, what to hide.

KVM_SET_MSRS stops at the first MSR that KVM refuses (Documentation/virt/kvm/api.rst 4.19), and KVM refuses one if it
does not know it, if the guest's CPUID does not have its feature, or if the value has a bit that it cannot give
(arch/x86/kvm/x86.c: kvm_set_msr_common; vmx/vmx.c: vmx_set_msr; svm/svm.c: svm_set_msr). VMMs ask
KVM_GET_MSR_INDEX_LIST what there is, and that list is made from what the host's CPU lets KVM read
(kvm_init_msr_lists): under another hypervisor it can hold MSRs that cannot be written. Numbers:
arch/x86/include/asm/msr-index.h, kvm_para.h, hyperv-tlfs.h; features: QEMU's names, target/i386/cpu.c and kvm/kvm.c:
kvm_put_msrs.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Msr(NamedTuple):
    """An MSR, or one of a range."""

    name: str
    what: str
    offered_by: str
    features: tuple[str, ...]  # QEMU's -cpu features without which a guest has none of it


_ARCH: Final = "every x86-64 CPU"
_PMU: Final = "the host's PMU, which many hypervisors trim for their guests"
_VMX: Final = "nested VMX of the host's KVM: its kernel version, kvm_intel.nested and the CPU decide the bits"
_KVM: Final = "KVM itself, if CPUID 0x40000001 of the guest has the feature"
_HYPERV: Final = "KVM's Hyper-V emulation (CONFIG_KVM_HYPERV), if the guest has the enlightenment"

_VMX_CAPABILITIES: Final = (
    "BASIC",
    "PINBASED_CTLS",
    "PROCBASED_CTLS",
    "EXIT_CTLS",
    "ENTRY_CTLS",
    "MISC",
    "CR0_FIXED0",
    "CR0_FIXED1",
    "CR4_FIXED0",
    "CR4_FIXED1",
    "VMCS_ENUM",
    "PROCBASED_CTLS2",
    "EPT_VPID_CAP",
    "TRUE_PINBASED_CTLS",
    "TRUE_PROCBASED_CTLS",
    "TRUE_EXIT_CTLS",
    "TRUE_ENTRY_CTLS",
    "VMFUNC",
)

_MSRS: Final[dict[int, Msr]] = {
    0x10: Msr("IA32_TSC", "the time-stamp counter", _ARCH, ("tsc",)),
    0x11: Msr("KVM_WALL_CLOCK", "kvmclock's wall clock (old number)", _KVM, ("kvmclock",)),
    0x12: Msr("KVM_SYSTEM_TIME", "kvmclock's time page (old number)", _KVM, ("kvmclock",)),
    0x1B: Msr("IA32_APIC_BASE", "base and mode of the local APIC", _ARCH, ("apic",)),
    0x34: Msr("SMI_COUNT", "the number of SMIs", "KVM with SMM emulation", ()),
    0x3A: Msr(
        "IA32_FEATURE_CONTROL",
        "locks VMX, SGX and LMCE on",
        "KVM, for guests that have VMX, SGX or LMCE",
        ("vmx", "lmce", "sgx"),
    ),
    0x3B: Msr("IA32_TSC_ADJUST", "an offset of the TSC", "KVM since 3.8", ("tsc-adjust",)),
    0x48: Msr(
        "IA32_SPEC_CTRL",
        "controls speculation: IBRS, STIBP, SSBD",
        "the CPU's microcode of 2018 or later, passed on by an outer hypervisor",
        ("spec-ctrl", "stibp", "ssbd", "ibrs", "amd-ssbd", "amd-stibp"),
    ),
    0x49: Msr(
        "IA32_PRED_CMD",
        "the barrier for branch prediction (IBPB)",
        "the CPU's microcode of 2018 or later",
        ("spec-ctrl", "ibpb"),
    ),
    0x8B: Msr("IA32_BIOS_SIGN_ID", "the microcode's revision", _ARCH, ()),
    0x9E: Msr("IA32_SMBASE", "where SMM's code lies", "KVM with SMM emulation, written only from SMM", ()),
    0xCE: Msr("PLATFORM_INFO", "the CPU's fixed ratios", "KVM since 4.15", ()),
    0xCF: Msr(
        "IA32_CORE_CAPABILITIES",
        "whether split locks can be detected",
        "Intel CPUs with core-capability",
        ("core-capability",),
    ),
    0xE1: Msr(
        "IA32_UMWAIT_CONTROL",
        "limits UMWAIT and TPAUSE",
        "Intel CPUs with WAITPKG and KVM with enable_pm; KVM 5.4 lists it wherever it can be read",
        ("waitpkg",),
    ),
    0x10A: Msr(
        "IA32_ARCH_CAPABILITIES",
        "which speculation bugs the CPU does not have",
        "the CPU or KVM's emulation; which bits depends on microcode and kernel",
        ("arch-capabilities",),
    ),
    0x10B: Msr("IA32_FLUSH_CMD", "flushes the L1 data cache", "the CPU's microcode, and KVM since 6.4", ("flush-l1d",)),
    0x122: Msr("IA32_TSX_CTRL", "turns TSX off", "Intel CPUs whose microcode has TSX_CTRL", ("hle", "rtm", "tsx-ctrl")),
    0x140: Msr("MISC_FEATURES_ENABLES", "CPUID faulting", "KVM since 4.13", ()),
    0x174: Msr("IA32_SYSENTER_CS", "SYSENTER's code segment", _ARCH + "; not settable in an encrypted guest", ("sep",)),
    0x175: Msr("IA32_SYSENTER_ESP", "SYSENTER's stack", _ARCH + "; not settable in an encrypted guest", ("sep",)),
    0x176: Msr("IA32_SYSENTER_EIP", "SYSENTER's target", _ARCH + "; not settable in an encrypted guest", ("sep",)),
    0x17A: Msr("IA32_MCG_STATUS", "state of machine-check handling", _ARCH, ("mce", "mca")),
    0x17B: Msr("IA32_MCG_CTL", "controls machine checks", _ARCH, ("mce", "mca")),
    0x1A0: Msr("IA32_MISC_ENABLE", "switches of Intel's CPUs", "KVM; MWAIT and perf bits follow CPUID", ()),
    0x1C4: Msr(
        "IA32_XFD",
        "which XSAVE states trap on first use",
        "CPUs with AMX, and a VMM that asked for it (ARCH_REQ_XCOMP_GUEST_PERM)",
        ("xfd", "amx-tile"),
    ),
    0x1C5: Msr(
        "IA32_XFD_ERR", "which XSAVE state trapped", "CPUs with AMX, and a VMM that asked for it", ("xfd", "amx-tile")
    ),
    0x1D9: Msr(
        "IA32_DEBUGCTL",
        "branch tracing and bus-lock traps",
        "KVM; the bits follow CPUID and the host's LBR",
        ("pdcm", "bus-lock-detect"),
    ),
    0x277: Msr("IA32_PAT", "memory types by page", _ARCH, ("pat",)),
    0x2FF: Msr("IA32_MTRR_DEF_TYPE", "the default memory type", _ARCH, ("mtrr",)),
    0x345: Msr("IA32_PERF_CAPABILITIES", "formats of LBR and PEBS, full-width counters", _PMU, ("pdcm",)),
    0x38D: Msr("IA32_FIXED_CTR_CTRL", "controls the fixed counters", _PMU, ("pmu",)),
    0x38E: Msr("IA32_PERF_GLOBAL_STATUS", "which counters overflowed", _PMU, ("pmu",)),
    0x38F: Msr("IA32_PERF_GLOBAL_CTRL", "turns all counters on", _PMU, ("pmu",)),
    0x390: Msr("IA32_PERF_GLOBAL_OVF_CTRL", "clears overflows", _PMU, ("pmu",)),
    0x3F1: Msr("IA32_PEBS_ENABLE", "precise sampling", _PMU, ("pmu",)),
    0x4D0: Msr("IA32_MCG_EXT_CTL", "local machine checks", "CPUs with LMCE, and KVM since 4.8", ("lmce",)),
    0x570: Msr("IA32_RTIT_CTL", "Processor Trace", "CPUs with PT and kvm_intel.pt_mode=1", ("intel-pt",)),
    0x600: Msr("IA32_DS_AREA", "where the debug store lies", _PMU, ("ds", "pmu")),
    0x6A0: Msr("IA32_U_CET", "shadow stacks of user code", "CPUs with CET, and KVM since 6.18", ("shstk", "ibt")),
    0x6A2: Msr("IA32_S_CET", "shadow stacks of kernel code", "CPUs with CET, and KVM since 6.18", ("shstk", "ibt")),
    0x6E0: Msr("IA32_TSC_DEADLINE", "the APIC timer's deadline", "KVM's in-kernel APIC", ("tsc-deadline",)),
    0xC80: Msr("IA32_DEBUG_INTERFACE", "silicon debugging", "the CPU", ()),
    0xD90: Msr("IA32_BNDCFGS", "MPX", "Intel CPUs with MPX; newer hosts dropped it", ("mpx",)),
    0xDA0: Msr(
        "IA32_XSS", "which supervisor states XSAVES saves", "KVM; the bits follow the host's XSS and CPUID", ("xsaves",)
    ),
    0xC0000080: Msr(
        "EFER",
        "long mode, NX, SVM",
        "KVM; each bit must be in the guest's CPUID: LM, NX, SVM, FFXSR, AutoIBRS",
        ("lm", "nx", "svm", "fxsr-opt", "auto-ibrs"),
    ),
    0xC0000081: Msr("STAR", "SYSCALL's segments", _ARCH, ("syscall",)),
    0xC0000082: Msr("LSTAR", "SYSCALL's target in 64-bit code; must be canonical", _ARCH, ("syscall", "lm")),
    0xC0000083: Msr("CSTAR", "SYSCALL's target in compatibility mode; must be canonical", _ARCH, ("syscall", "lm")),
    0xC0000084: Msr("SYSCALL_MASK", "flags that SYSCALL clears", _ARCH, ("syscall", "lm")),
    0xC0000100: Msr("FS_BASE", "base of FS; must be canonical", _ARCH, ("lm",)),
    0xC0000101: Msr("GS_BASE", "base of GS; must be canonical", _ARCH, ("lm",)),
    0xC0000102: Msr("KERNEL_GS_BASE", "what SWAPGS exchanges; must be canonical", _ARCH, ("lm",)),
    0xC0000103: Msr(
        "TSC_AUX",
        "what RDTSCP returns in ECX",
        "CPUs with RDTSCP or RDPID, in the guest's CPUID too",
        ("rdtscp", "rdpid"),
    ),
    0xC0000104: Msr(
        "AMD64_TSC_RATIO",
        "scales the TSC of a nested guest",
        "AMD CPUs with TSC scaling, and a guest that has tsc-scale",
        ("tsc-scale", "svm"),
    ),
    0xC0010015: Msr("HWCR", "switches of AMD's CPUs", "KVM; it takes few bits", ()),
    0xC0010114: Msr("VM_CR", "whether SVM is locked off", "KVM, for guests with SVM", ("svm",)),
    0xC0010117: Msr("VM_HSAVE_PA", "where SVM saves the host's state", "KVM, for guests with SVM", ("svm",)),
    0xC001011F: Msr(
        "AMD64_VIRT_SPEC_CTRL", "SSBD, virtualised", "AMD CPUs with LS_CFG_SSBD or VIRT_SSBD", ("virt-ssbd",)
    ),
    0xC0011029: Msr("AMD64_DE_CFG", "whether LFENCE serializes", "KVM since 4.17", ()),
}

_KVM_MSRS: Final = {
    0x4B564D00: ("KVM_WALL_CLOCK_NEW", "kvmclock's wall clock", ("kvmclock",)),
    0x4B564D01: ("KVM_SYSTEM_TIME_NEW", "kvmclock's time page", ("kvmclock",)),
    0x4B564D02: (
        "KVM_ASYNC_PF_EN",
        "asynchronous page faults; since 5.8 refused without an in-kernel APIC, until d831de177217 also the value 0",
        ("kvm-asyncpf",),
    ),
    0x4B564D03: ("KVM_STEAL_TIME", "time stolen from the vCPU", ("kvm-steal-time",)),
    0x4B564D04: ("KVM_PV_EOI_EN", "paravirtual end of interrupt", ("kvm-pv-eoi",)),
    0x4B564D05: ("KVM_POLL_CONTROL", "whether the host polls when the vCPU halts", ("kvm-poll-control",)),
    0x4B564D06: ("KVM_ASYNC_PF_INT", "vector for asynchronous page faults", ("kvm-asyncpf-int",)),
    0x4B564D07: ("KVM_ASYNC_PF_ACK", "acknowledges an asynchronous page fault", ("kvm-asyncpf-int",)),
    0x4B564D08: ("KVM_MIGRATION_CONTROL", "whether the guest may be migrated", ("kvm-migration-control",)),
}

_HYPERV_MSRS: Final = {
    0x40000000: ("HV_X64_MSR_GUEST_OS_ID", "the guest's name for Hyper-V", ("hv-relaxed",)),
    0x40000001: ("HV_X64_MSR_HYPERCALL", "the hypercall page", ("hv-relaxed",)),
    0x40000002: ("HV_X64_MSR_VP_INDEX", "the number of the vCPU", ("hv-vpindex",)),
    0x40000003: ("HV_X64_MSR_RESET", "resets the VM", ("hv-reset",)),
    0x40000010: ("HV_X64_MSR_VP_RUNTIME", "how long the vCPU ran", ("hv-runtime",)),
    0x40000020: ("HV_X64_MSR_TIME_REF_COUNT", "the reference counter", ("hv-time",)),
    0x40000021: ("HV_X64_MSR_REFERENCE_TSC", "the reference TSC page", ("hv-time",)),
    0x40000022: ("HV_X64_MSR_TSC_FREQUENCY", "the TSC's frequency", ("hv-frequencies",)),
    0x40000023: ("HV_X64_MSR_APIC_FREQUENCY", "the APIC's frequency", ("hv-frequencies",)),
    0x40000073: ("HV_X64_MSR_VP_ASSIST_PAGE", "the VP assist page", ("hv-vapic",)),
    0x40000106: ("HV_X64_MSR_REENLIGHTENMENT_CONTROL", "tells of migrations", ("hv-reenlightenment",)),
    0x40000107: ("HV_X64_MSR_TSC_EMULATION_CONTROL", "emulates the TSC after migration", ("hv-reenlightenment",)),
    0x40000108: ("HV_X64_MSR_TSC_EMULATION_STATUS", "emulates the TSC after migration", ("hv-reenlightenment",)),
}


def describe_msr(number: int) -> Msr | None:
    """What an MSR is; ``None``: KVM has no reason to be asked for it."""
    if (known := _MSRS.get(number)) is not None:
        return known
    if (own := _KVM_MSRS.get(number)) is not None:
        return Msr(own[0], own[1], _KVM, own[2])
    if (hyperv := _HYPERV_MSRS.get(number)) is not None:
        return Msr(hyperv[0], hyperv[1], _HYPERV, hyperv[2])
    return _of_range(number)


def _of_range(number: int) -> Msr | None:
    for first, last, name, what, offered, features in _RANGES:
        if first <= number <= last:
            return Msr(
                name.format(n=number - first, half=(number - first) // 2, bank=(number - first) // 4),
                what,
                offered,
                features,
            )
    if 0x480 <= number <= 0x491:
        what = "a VMX capability: which controls a nested hypervisor may set"
        return Msr(f"IA32_VMX_{_VMX_CAPABILITIES[number - 0x480]}", what, _VMX, ("vmx",))
    if 0x400 <= number < 0x480:
        part = ("CTL", "STATUS", "ADDR", "MISC")[number & 3]
        return Msr(
            f"IA32_MC{number - 0x400 >> 2}_{part}",
            "a machine-check bank; only some values are taken",
            "KVM, as many banks as KVM_X86_SETUP_MCE asked for",
            ("mce", "mca"),
        )
    if 0x200 <= number < 0x220:
        part = "MASK" if number & 1 else "BASE"
        what = "a variable memory-type range; an address bit beyond the guest's physical width is refused"
        return Msr(f"IA32_MTRR_PHYS{part}{number - 0x200 >> 1}", what, _ARCH, ("mtrr", "phys-bits"))
    return None


_RANGES: Final = (
    (0xC1, 0xC8, "IA32_PMC{n}", "a performance counter", _PMU, ("pmu",)),
    (0x186, 0x18D, "IA32_PERFEVTSEL{n}", "selects what a counter counts", _PMU, ("pmu",)),
    (0x250, 0x26F, "IA32_MTRR_FIX", "a fixed memory-type range", _ARCH, ("mtrr",)),
    (0x280, 0x29F, "IA32_MC{n}_CTL2", "corrected machine checks", "KVM since 6.0", ("mce", "mca")),
    (0x309, 0x30C, "IA32_FIXED_CTR{n}", "a fixed counter", _PMU, ("pmu",)),
    (0x4C1, 0x4C8, "IA32_A_PMC{n}", "a full-width performance counter", _PMU, ("pmu",)),
    (0x560, 0x587, "IA32_RTIT", "Processor Trace", "CPUs with PT and kvm_intel.pt_mode=1", ("intel-pt",)),
    (0x6A4, 0x6A8, "IA32_PL{n}_SSP", "a shadow-stack pointer", "CPUs with CET, and KVM since 6.18", ("shstk",)),
    (0x800, 0x8FF, "x2APIC register {n:#x}", "the local APIC in x2APIC mode", "KVM's in-kernel APIC", ("x2apic",)),
    (0x14CE, 0x14CF, "IA32_LBR", "last-branch records", _PMU, ("arch-lbr",)),
    (0x40000080, 0x4000009F, "HV_X64_MSR_SYNIC", "Hyper-V's synthetic interrupt controller", _HYPERV, ("hv-synic",)),
    (0x400000B0, 0x400000B7, "HV_X64_MSR_STIMER", "a synthetic timer", _HYPERV, ("hv-stimer",)),
    (0x400000F1, 0x400000F5, "HV_X64_MSR_SYNDBG", "the synthetic debugger", _HYPERV, ("hv-syndbg",)),
    (0x40000100, 0x40000105, "HV_X64_MSR_CRASH", "what a crashed guest tells", _HYPERV, ("hv-crash",)),
    (0x40000000, 0x400001FF, "a Hyper-V MSR", "Hyper-V's interface", _HYPERV, ()),
    (
        0x4B564DF0,
        0x4B564DFF,
        "a PVM MSR",
        "PVM's own interface between guest and host",
        "kvm_pvm, which is not in mainline",
        (),
    ),
    (0x4B564D00, 0x4B564DFF, "a KVM MSR", "KVM's paravirtual interface", _KVM, ()),
    (0xC0000300, 0xC0000303, "AMD64_PERF_CNTR_GLOBAL", "AMD's PerfMonV2", _PMU, ("perfmon-v2", "pmu")),
    (0xC0010000, 0xC0010007, "K7_EVNTSEL/PERFCTR", "AMD's four old counters", _PMU, ("pmu",)),
    (0xC0010200, 0xC001020B, "AMD64_PERF_CTL/CTR", "AMD's six counters", _PMU, ("perfctr-core", "pmu")),
)
