"""A refused set-up: what the messages of the tables hold, and the words by which others are read.

The words are combined: a verb before what is made or set. None is so common that a healthy log is full of it.
"""

from __future__ import annotations

from typing import Final

OF_TABLES: Final = (
    "KVM kern", "KVM Kern", "kvm version too old", "kvm version not sup", "KVM_CREATE_VM", "not supported by KVM",
    "Host kernel setup problem", "PPC KVM module is not", "kvm-type=", "IPA range", "cpus supported by KVM",
    "kvm does not support", "nitialize kvm", "nitialize KVM", "kvm_init_vcpu", "kvm_create_vcpu failed",
    "failed to get MSR", "_set_msrs", "kvm_put_msrs", "kvm_get_msrs", "utting registers after", "to put registers",
    "to get registers", "kvm_set_user_memory_region", "kvm_set_phys_mem", "no free slot available",
    "kvm_set_memory_attributes", "guest_memfd", "kvm_irqchip_commit_routes", "irqchip failed", "split IRQ",
    "_ioeventfd_", "_DEVICE_ATTR failed", "in-kernel VGIC", "in-kernel ITS", "in-kernel GIC", "for PMU", "init PMU",
    "PVTIME IPA", "not set register", "KVM AIA", "Unable to set KVM", "Unable to set ISA", "Unable to set vlenb",
    "Unable to enable ISA", "Unable to enable vlenb", "Unable to read KVM", "Unable to read ISA",
    "Unable to read vlenb", "Unable to get KVM", "Unable to get ISA", "Unable to get vlenb", "KVM HPT",
    "-machine cap-", "KVM: could not enable", "KVM: failed to enable", "KVM PV command", "KVM does not support",
    "KVM doesn't support", "dirty ring failed", "enable KVM", "enable kvm", "support requested features",
    "X2APIC API support", "KVM with user space irqchip", "cpu_address_space_init", "fw_err", "open /dev/sev",
    "host SEV-ES support", "cbitpos check failed", "phys_bits check failed", "phys-bits check failed",
    "SEV-ES guests require", "cannot disable RAM discard", "sev_ram_block_added", "encryption context",
    "snp_populate_metadata_pages", "SEV-SNP", "TDX ioctl", "KVM_TDX_", "TDX doesn't support", "TDX requires",
    "TDX only supports", "Invalid TSC ", "SevInit(", "SnpInit(", "LaunchStart(", "SevLaunch", "SnpLaunch",
    "InitializeSevSnp(", "InitializeTdx(", "FinalizeTdx(", "TdxInit", "TdxFinalize", "TdxCapabilities", "TdxVcpu",
    "failed to INIT", "SEV: failed to get status", ": sev command ", "not enabled by BIOS", "BIOS not enabled",
    "initialization failed", "kvm_intel: Cannot", "kvm_intel: TDX", "kvm_intel: tdx", "etected faulty MSR",
    "to set MSR", "to write MSR", "to set msr", "to write msr", "to set KVM MSR", "to set vcpu MSR", "KVM vcpu msr",
    "all KVM MSRs", "MSRs could not be set", "to set reg", "such register: reg=", "KVM capabilit", "kvm capabilit",
    "issing capability", "KVM_CAP_", "Required extension", "Required KVM extension", "apability missing",
    "to disable exis", "to disable exit", "attributes for the GIC", "global interrupt controller",
    "configured, but not available", "requires KVM", "invalid accelerator", "KVM not supported for",
    "accelerator not found", "o accelerator found", "is not supported by hypervisor",
    "not provide required features", "match specification", "for os type 'hvm'", "support virt type 'kvm'",
    "NoHypervisorFound", "krun_start_enter", "KVM: Failed to", "no hardware support", "disabled by bios",
    "already loaded the other", "already loaded vendor", "nabling virtualization on CPU", "VMX not supported by CPU",
    "VMX not enabled (by BIOS)", "disabled by BIOS", "unsupported by BIOS", "SVM not supported", "has_svm: ",
    "SVM disabled (by BIOS)", "VMXON faulted", "feature inconsistency", "compatibility check failed",
    "HYP mode not available", "Hyp mode", "no GICV resource", "obtain GICV resource", "no compatible GIC",
    "not page aligned", "vgic init", "hypervisor extension not available", "require SBI ", "KVM-HV: ", "kvm_hv: ",
    "could not insert", "Error inserting kvm", "Module kvm", "not support KVM extensions", "disabled by your BIOS",
    "supports vmx or svm", "permissions to use KVM", "requires hardware acceleration", "type=kvm", "KVM is not",
    "KVM virtualization is not", "KVM acceleration", "KVM support is not", "kvm is not available", "/dev/kvm",
    "Insufficient devices.kubevirt.io/kvm", "SNP Launch", "SNP launch", "SEV Launch", "SEV launch", "SecureVirt",
)  # fmt: skip
_VERBS: Final = (
    "reate", "reating", "reate a", "reate the", "reating a", "reating the", "reate new", "reate KVM", "reating KVM",
)  # fmt: skip
_MADE: Final = (
    "vcpu", "vCPU", "VCPU", "Vcpu", "VM", "vm", "Vm", "virtual machine", "microVM", "microvm", "KVM VM", "KVM vm",
    "kvm vm", "irqchip", "IRQ chip", "IRQchip", "GIC", "VGIC", "vgic",
)  # fmt: skip
_SET: Final = ("set", "setting", "Set", "Setting", "restore", "put", "writing", "write", "configure", "configuring")
_STATE: Final = (
    "cpuid", "CPUID", "Cpuid", "CPUID2", "cpuid2", "MSR", "MSRs", "msr", "msrs", "Msr", "FPU", "fpu", "xsave",
    "XSAVE", "Lapic", "LAPIC", "lapic", "regs", "registers", "KVM vcpu", "core register", "one reg", "user memory",
    "memory region", "memory slot", "guest memory", "debug reg", "nested state", "MP state", "mp state",
    "vcpu events", "TSC", "tsc", "identity map",
)  # fmt: skip
OF_WORDS: Final = (
    "KVM error", "Kvm error", "KVM failed", "KVM init", "init KVM", "start KVM", "KVM ioctl", "Kvm ioctl", "KVM setup",
    "setup KVM", "set up KVM", "KVM vCPU", "KVM hypervisor", "KVM backend", "KVM platform", "KVM state", "using KVM",
    "KVM_TDX_", "KVM_CAP_", "/dev/kvm", "guest_memfd", "such register: reg=", "KVM capabilit", "kvm capabilit",
    "KVM_CREATE_", "KVM_SET_", "KVM_GET_", "KVM_ENABLE_CAP", "KVM_CHECK_EXTENSION", "KVM_ARM_", "KVM_MEMORY_ENCRYPT",
    "KVM_INIT_", "KVM_SEV_", "KVM_IRQ", "KVM_IOEVENTFD", "KVM_PPC_", "KVM_S390_", "KVM_RISCV_", "KVM_XEN_",
    "KVM_REGISTER_", "KVM_ASSIGN_", "KVM_DEVICE_", "KVM_PRE_FAULT", "KVM_CLEAR_DIRTY", "KVM_RESET_DIRTY",
    "KVM_SIGNAL_MSI", "ioctl (CREATE_", "ioctl (SET_", "ioctl(CREATE_", "ioctl(SET_", "ioctl (ENABLE_",
    "ioctl(ENABLE_", "VmFd", "VcpuFd", "KvmNew", "KvmFd", "CreateVm", "VmCreate", "createVM", "VcpuCreate",
    "CreateVcpu", "create_vcpu", "create_vm", "HypervisorCreate", "KvmCreate", "CreateKvm", "OpenKvm", "NewKvm",
    "NewVcpu", "InitKvm", "KvmInit", "Kvm(Error", "VM creation", "vcpu creation", "vm creation", "CreateGuestMemfd",
    "KVM object", "Kvm object", "kvm object", "KVM: create", "KVM device", "kvm device", "open kvm", "open KVM",
    "access kvm", "access KVM", "opening kvm", "opening KVM", "use kvm", "use KVM", "create the hypervisor",
    "of the hypervisor", "IrqChip", "Irqchip", "nterrupt controller", "SetSpecialReg", "SetStatusReg",
    "SetSegmentReg", "SREGS", "sregs", "SRegs", "Sregs", "pecial reg", "egment registers", "SetMsr",
    "SetModelSpecific", "MSRSConfig", "set_msrs", "MsrEntries", "SetCpuid", "SetSupportedCpus", "SupportedCpuid",
    "set_cpuid", "Xcr", "xcrs", "XCRS", "xcr0", "Xsave", "SetFpu", "SetFPU", "SetFloating", "FPUConfig", "SetLapic",
    "LocalInt", "extended states", "SetVcpuEvents", "SetMpState", "multiprocessor state", "SetNestedState",
    "SetDebugRegs", "tsc_khz", "SetTsc", "SetTss", "set_tss", "TSS addr", "tss addr", "VmSetup(", "SetPit",
    "CreatePit", "SetIdentityMap", "GsiRouting", "GSI rout", "gsi rout", "irq rout", "IRQ rout", "nterrupt rout",
    "VmSetIrq", "create_irq", "CreateGic", "CreateVgic", "SetupGIC", "create_vgic", "device attribute", "DeviceAttr",
    "VcpuInit(", "vcpu_init", "VcpuArmInit", "VcpuFinalize", "preferred target", "nitializing the vcpu",
    "nitializing vcpu", "nitialising vCPU", "nitialize vcpu", "SetOneReg", "CoreRegister", "invalid register ID",
    "REGSConfig", "StandardReg", "SetBaseReg", "SetRegisters", "VcpuSet", "VcpuGet", "purpose reg", "set_regs",
    "irqfd", "IrqFd", "ioeventfd", "IoEvent", "IO event", "IrqEvent", "SetMemoryAttributes", "memory attributes",
    "EnableCap", "nabling capab", "nable capab", "nable split", "SplitIrq", "X2Apic", "exists due", "exits due",
    "SetUserMemory", "SetKvmUser", "SetUserspaceMemory", "CreateUserMemory", "UserMemoryRegion",
    "user_memory_region", "set_memory_region", "userspace memory", "user memory region", "kvm memory", "kvm_set_mem",
    "register_mem", "add a memory region", "add memory region", "map memory region", "register memory region",
    "AddMemory", "MemoryRegion(Error", "set the memory region", "map guest memory", "vcpu to kvm", "vCPU to KVM",
    *(f"{verb} {thing}" for verb in _VERBS for thing in _MADE),
    *(f"{verb} {thing}" for verb in _SET for thing in _STATE),
)  # fmt: skip
ANCHORS: Final[tuple[str, ...]] = (*OF_TABLES, *OF_WORDS)
