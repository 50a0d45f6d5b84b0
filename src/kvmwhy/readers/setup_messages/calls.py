"""The words by which programs name a call to KVM: its object in English, and the variants of Rust's error types.

Sources: thiserror and displaydoc texts of Firecracker (src/vmm/src/{vstate,arch}), Cloud Hypervisor (hypervisor/src,
arch/src), crosvm (hypervisor, arch), libkrun, Dragonball, kvmtool's die_perror, gVisor
(pkg/sentry/platform/kvm), gokvm, hyperlight, uhyve, Solo5, km, and of programs made after the LWN example of 2015.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple


class Call(NamedTuple):
    name: str
    detail: str
    text: str  # the pattern's source
    specific: bool  # says KVM by itself: nothing else has such an object

    @property
    def pattern(self) -> re.Pattern[str]:
        return _compiled(self.text)


@cache
def _compiled(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _call(name: str, detail: str, pattern: str, *, specific: bool = True) -> Call:
    return Call(name, detail, pattern.replace(" ", r"\s{1,3}"), specific)


_THE: Final = r"(?:(?:the|a|an|new|kvm|guest|in-kernel) ){0,3}"
_SET: Final = (
    r"\b(?:re)?(?:set(?:ting)?(?: ?up)?|stor(?:e|ing)|put(?:ting)?|configur(?:e|ing)|writ(?:e|ing)|load(?:ing)?"
    r"|updat(?:e|ing)|initiali[sz](?:e|ing))"
)
_MAKE: Final = (
    r"\b(?:creat(?:e|ing|ion of)|initiali[sz](?:e|ing)|init|mak(?:e|ing)|build(?:ing)?|add(?:ing)?|set(?:ting)? up"
    r"|allocat(?:e|ing)) "
)

# The more exact first: the first that is found in a line names the call.
CALLS: Final[tuple[Call, ...]] = (
    _call("KVM_CREATE_GUEST_MEMFD", "guest-memfd", r"CreateGuestMemfd|guest_memfd"),
    _call(
        "KVM_SET_USER_MEMORY_REGION",
        "memory-region",
        r"Set(?:Kvm)?User(?:space)?MemoryRegions?|set_user_memory_region|set_memory_region|CreateUserMemory|"
        r"(?:user(?:space)?|kvm) memory (?:region|slot|area)s?|KvmSetUserMemory|UserMemoryRegion"
        r"|(?:set(?:ting)?|creat(?:e|ing)|remov(?:e|ing)) (?:the )?user(?:space)? memory|kvm_set_mem\b|register_mem\b",
    ),
    _call(
        "KVM_SET_USER_MEMORY_REGION",
        "memory-region",
        r"(?:set|add|map|register|creat|insert)(?:ting|ping|ing|e|ed)? "
        + _THE
        + r"(?:guest )?(?:memory (?:regions?|slots?)|memslots?|guest memory|vm memory)"
        r"|\bmemory (?:region|slot) (?:[0-9]{1,5} )?(?:registration|creation|failed)|AddMemory(?:Region)?\("
        r"|MemoryRegion\(Error",
        specific=False,
    ),
    _call("KVM_SET_XCRS", "xcrs", r"\bxcrs?\b|SetXcr|extended control registers"),
    _call(
        "KVM_SET_SREGS",
        "special-registers",
        r"\bs_?regs2?\b|Set_?SpecialReg|SetStatusRegisters|SREGSConfiguration|SetSegmentRegisters|SetSRegs"
        r"|VcpuSetSregs|VcpuSetSRegs",
    ),
    _call(
        "KVM_SET_SREGS",
        "special-registers",
        _SET + r"[^\n]{0,30}(?:special|segment|status|control|system) registers|special registers",
    ),
    _call(
        "KVM_SET_MSRS",
        "msr",
        r"MSRSConfiguration|SetModelSpecificRegisters|SetMsrs?\b|SetMsrEntries|VcpuSetMsrs|set_msrs",
    ),
    _call("KVM_SET_MSRS", "msr", _SET + r"[^\n]{0,40}\bmsrs?\b|\bmsrs?\b[^\n]{0,20}(?:could not be set|partial write)"),
    _call(
        "KVM_GET_MSRS",
        "msr",
        r"\bget(?:ting)? [^\n]{0,30}\bmsrs?\b|GetMsrEntries|GetModelSpecificRegisters|VcpuGetMsrs"
        r"|\bread(?:ing)? [^\n]{0,20}feature msrs",
    ),
    _call(
        "KVM_SET_CPUID2",
        "cpuid",
        r"SetSupportedCpus|SetCpuid|VcpuSetCpuid|set_cpuid2?|" + _SET + r"[^\n]{0,30}\bcpuid\b|supported CPUs",
    ),
    _call(
        "KVM_GET_SUPPORTED_CPUID",
        "cpuid",
        r"get(?:ting)? [^\n]{0,20}(?:supported )?cpuid|GetSupportedCpuid|VcpuGetCpuid|GetCpuid",
    ),
    _call(
        "KVM_SET_XSAVE",
        "xsave",
        _SET + r"[^\n]{0,30}\bxsave2?\b|SetXsave|SetXsaveState|VcpuSetXsave|processor extended states",
    ),
    _call(
        "KVM_SET_FPU",
        "fpu",
        _SET + r"[^\n]{0,30}(?:\bfpu\b|floating[- ]point)|FPUConfiguration|SetFloatingPoint|SetFPURegisters|SetFpu",
    ),
    _call(
        "KVM_SET_LAPIC",
        "lapic",
        _SET + r"[^\n]{0,30}\blapics?\b|SetLapic|LocalIntConfiguration|setting the local interrupt",
    ),
    _call(
        "KVM_SET_VCPU_EVENTS",
        "vcpu-events",
        r"SetVcpuEvents?|VcpuSetVcpuEvents|" + _SET + r"[^\n]{0,30}\bvcpu events?\b",
    ),
    _call(
        "KVM_SET_MP_STATE",
        "mp-state",
        r"SetMpState|VcpuSetMpState|" + _SET + r"[^\n]{0,30}(?:\bmp_? ?state\b|multiprocessor state)",
    ),
    _call(
        "KVM_SET_NESTED_STATE", "nested-state", r"SetNestedState|" + _SET + r"[^\n]{0,30}\bnested (?:guest )?state\b"
    ),
    _call(
        "KVM_SET_DEBUGREGS", "debug-registers", r"SetDebugRegs|VcpuSetDebugRegs|" + _SET + r"[^\n]{0,30}\bdebug ?reg"
    ),
    _call(
        "KVM_SET_TSC_KHZ",
        "tsc-frequency",
        r"SetTscKhz|SetTsc\(|set_tsc_khz|" + _SET + r"[^\n]{0,30}\bTSC (?:frequency|khz)",
    ),
    _call(
        "KVM_SET_TSS_ADDR", "tss-address", r"SetTssAddr|VmSetup\(|set_tss_addr(?:ess)?|KVM_SET_TSS_ADDRESS|\bTSS addr"
    ),
    _call("KVM_GET_TSC_KHZ", "tsc-frequency", r"\bget(?:ting)? [^\n]{0,12}\bTSC frequency"),
    _call("KVM_SET_IDENTITY_MAP_ADDR", "identity-map", r"SetIdentityMapAddr|identity map addr"),
    _call("KVM_SET_GSI_ROUTING", "irq-routing", r"SetGsiRouting|(?:gsi|irq|interrupt) rout(?:ing|es?)"),
    _call("KVM_SET_IRQCHIP", "irqchip", r"VmSetIrqChip|SetIrqchip|\bset(?:ting)? [^\n]{0,20}irq ?chip"),
    _call("KVM_CREATE_PIT2", "pit", r"VmSetPit|SetPit|CreatePit2?|" + _MAKE + _THE + r"(?:\bpit2?\b|i8254)"),
    _call(
        "KVM_CREATE_IRQCHIP",
        "irqchip",
        r"CreateIrqchip|VmCreateIrqChip|create_irq_?chip|VmSetup\(CreateIrq|" + _MAKE + _THE + r"(?:irq ?chip|ioapic)",
    ),
    _call("KVM_CREATE_IRQCHIP", "irqchip", _MAKE + _THE + r"(?:global )?interrupt controller"),
    _call(
        "KVM_CREATE_DEVICE",
        "vgic",
        r"CreateV?[Gg]ic\b|CreateVgicFailed|SetupGIC|VmCreateGIC|\bVGIC\b|create_vgic|"
        + _MAKE
        + _THE
        + r"(?:v?gic|\bits\b|v?aia)\b",
    ),
    _call("KVM_SET_DEVICE_ATTR", "pmu", _MAKE + _THE + r"pmu\b"),
    _call(
        "KVM_TDX_INIT_VM",
        "tdx-launch",
        r"\b(?:initiali[sz]|finali[sz]|retriev|enabl)(?:e|ing) [^\n]{0,16}\bTDX\b",
    ),
    _call("SNP_INIT", "sev-launch", r"\b(?:initiali[sz]|retriev|enabl)(?:e|ing) [^\n]{0,8}\bSEV-SNP\b"),
    _call("SNP_INIT", "sev-launch", r"for Secure Virtualization|Secure VM \(SNP\)"),
    _call("KVM_TDX_INIT_VM", "tdx-launch", r"for Trust Domain Extensions"),
    _call("KVM_GET_MSR_INDEX_LIST", "msr", r"(?:retriev(?:e|ing)|list of) [^\n]{0,24}\bmsrs\b|msr index list"),
    _call("KVM_ENABLE_CAP", "hyperv", r"\benabl(?:e|ing) Hyper-?V SynIC"),
    _call("arch_prctl", "amx", r"\b(?:enabl(?:e|ing)|set(?:ting)? up) AMX\b"),
    _call("KVM_GET_API_VERSION", "version-too-old", r"\bget(?:ting)? [^\n]{0,8}\bAPI version"),
    _call(
        "KVM_SET_DEVICE_ATTR",
        "device-attribute",
        r"SetDeviceAttr|DeviceAttribute|(?:setting or getting|set(?:ting)?(?:/get)?) [^\n]{0,10}device attributes?",
    ),
    _call(
        "KVM_ARM_VCPU_INIT",
        "vcpu-init",
        r"VcpuArmInit|VcpuInit\(|VcpuFinalize|vcpu_init\b|KVM_ARM_VCPU_INIT|preferred target"
        r"|(?:init|initiali[sz](?:e|ing)|finali[sz](?:e|ing)) (?:the )?v-?cpus?\b(?! reg)|fetching preferred"
        r"|vcpu processor features|vcpu init on (?:arm|aarch64)",
    ),
    _call(
        "KVM_SET_ONE_REG",
        "one-register",
        r"\bone[ _]reg\b|SetOneReg|VcpuSetReg|SetAarchCoreRegister|SetRiscvCoreRegister|(?:[gs]et|read"
        r"|write) (?:aarch64 |riscv64 )?(?:core|system|non-core) register\b|set register 0x6[0-9a-f]{15}"
        r"|list of registers|invalid register ID"
        r"|no such register: reg=",
    ),
    _call(
        "KVM_SET_REGS",
        "general-registers",
        r"REGSConfiguration|Set_?StandardReg|SetBaseRegisters|SetRegisters|VcpuSetRegs|\bset_regs\b|"
        + _SET
        + r"[^\n]{0,30}(?:general[- ]purpose|base|standard|initial|vcpu|user) reg(?:ister)?s?\b"
        r"|set up registers|(?:read|writ)ing CPU registers?",
    ),
    _call("KVM_IRQFD", "irqfd", r"\birqfd\b|RegisterIrqFd|VmIrqFd|RegisterIrqEvent"),
    _call("KVM_IRQFD", "irqfd", r"register (?:interrupt event|irq fd)", specific=False),
    _call("KVM_IOEVENTFD", "ioeventfd", r"\bioeventfd\b|RegisterIoEvent|register(?:ing)? IO ?event"),
    _call("KVM_SET_MEMORY_ATTRIBUTES", "memory-attributes", r"SetMemoryAttributes|memory attributes"),
    _call(
        "KVM_ENABLE_CAP",
        "capability",
        r"EnableCap|EnableSplitIrq|EnableX2Apic|enabl(?:e|ing) [^\n]{0,30}(?:capabilit(?:y|ies)"
        r"|hypercall exits|split irq|x2apic api)|disable exi(?:ts|sts) due",
    ),
    _call(
        "KVM_CREATE_VCPU",
        "vcpu",
        r"new vCPU\(id=|run data for vCPU\(id="
        r"|VcpuFd\b|VCPU file descriptor|VcpuCreate|CreateVcpus?\b|VmCreateVcpu|create_vcpu|kvm_vcpu_create"
        r"|KvmVcpuCreate|NewVcpu|"
        + _MAKE
        + _THE
        + r"(?:[a-z0-9]{1,8} ){0,1}v-?cpus?\b|add vcpu to kvm|v-?cpu creat(?:ion|e failed)|spawn(?:ing)? vcpu",
    ),
    _call("KVM_GET_VCPU_MMAP_SIZE", "vcpu", r"VCPU mmap size"),
    _call("KVM_SET_SIGNAL_MASK", "signal-mask", r"signal mask for vCPU\(id="),
    _call("vcpu-init", "vcpu-init", r"configur(?:e|ing) (?:the )?v-?cpus?\b"),
    _call(
        "open",
        "device",
        r"KvmNew|KvmFd|HypervisorCreate|CreateKvm\b|OpenKvm|NewKvm|Kvm\(Error|opening KVM device|open(?:ing)? "
        + _THE
        + r"kvm device|access(?:ing)? (?:the )?/dev/kvm|creat(?:e|ing) (?:the |a )?kvm object"
        r"|(?:open|access|stat|init)[^\n]{0,40}/dev/kvm|/dev/kvm['\"`)]{0,2}:|Failed to create the hypervisor"
        r"|check availability of the hypervisor|validate KVM support|InitKvm|KvmInit",
    ),
    _call(
        "open",
        "device",
        r"unable to (?:open|access|use) kvm\b|cannot (?:open|access|use) kvm\b|failed to (?:open"
        r"|access) kvm\b|(?:open|opening) kvm\b",
    ),
    _call(
        "KVM_CREATE_VM",
        "vm",
        r"\bVmFd\b|VM file descriptor|CreateVm\b|VmCreate\b|KvmCreateVm|create_vm\b|create the KVM VM|kvm_create_vm"
        r"|(?:creat(?:e|ing)|creation of) " + _THE + r"(?:kvm )?(?:(?:ucontrol )?vm|virtual machine|vm fd|micro-?vm)\b"
        r"(?! (?:image|disk|snapshot|template|config|file|name|backup|dir|folder|log|socket|network|pool|storage))"
        r"|VM creation|createVM\b",
    ),
)

# Names of ioctls, and of what small programs leave of them: Solo5 prints "ioctl (CREATE_VM) failed".
IOCTL: Final = re.compile(
    r"\bKVM_(?P<kvm>(?:CREATE|SET|GET|ENABLE|CHECK|ARM|INIT|MEMORY_ENCRYPT|TDX|SEV|IRQ|IOEVENTFD"
    r"|SIGNAL_MSI|REGISTER|UNREGISTER"
    r"|RESET_DIRTY|CLEAR_DIRTY|PRE_FAULT|TRANSLATE|KVMCLOCK|XEN|PPC|S390|RISCV|HYPERV|DEVICE|CAP|SMI|NMI"
    r"|INTERRUPT|ASSIGN|REG)(?:_[A-Z0-9]{1,16}){0,6})\b"
    r"|\bioctl ?\((?P<bare>(?:CREATE|SET|GET|ENABLE)_[A-Z0-9_]{2,24})\)"
)
