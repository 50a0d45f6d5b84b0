"""A refused set-up: what an input holds in which a program says that KVM refused something."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared

# What most reports hold; the rest of what is declared is looked for in what holds none of any reader's.
_FIRST: Final = frozenset(
    {
        "KVM kern", "nitialize kvm", "nitialize KVM", "kvm_init_vcpu", "failed to get MSR", "to set MSR", "_set_msrs",
        "kvm_put_msrs", "utting registers after", "to put registers", "kvm_set_user_memory_region",
        "kvm_irqchip_commit_routes", "fw_err", "TDX ioctl", "KVM_TDX_", "etected faulty MSR", "no hardware support",
        "disabled by bios", "already loaded the other", "nabling virtualization on CPU", "HYP mode not available",
        "failed to INIT", "KVM object", "Kvm object", "krun_start_enter", "to disable exis", "guest_memfd",
    }
)  # fmt: skip
# Of ordinary logs, too: a call's name stands in one that it succeeds in.
_CALLS: Final = ("KVM_CREATE_", "KVM_SET_", "KVM_ENABLE_CAP", "/dev/kvm", "VmFd", "VcpuFd", "KvmNew", "VcpuCreate")
_FAILED: Final = (
    "ail", "rror", "RROR", "annot", "an't", "an not", "ould not", "ouldn't", "nable to", "efused", "ejected", "enied",
    "nvalid", "usy", "not ", "nsupported", "issing", "panic", "atal", "ssert", "unwrap", "Err", "rrno", "No such",
    "exists", "too ", "Too ", "EINVAL", "EBUSY", "EEXIST", "ENOMEM", "EFAULT", "E2BIG", "= -", ": -",
)  # fmt: skip
OF_TABLES: Final = (
    "KVM kern", "KVM Kern", "kvm version too old", "kvm kernel version too old",
    "kvm version not sup", "KVM_CREATE_VM", "not supported by KVM",
    "Host kernel setup problem", "PPC KVM module is not", "kvm-type=", "IPA range", "maximum cpus supported by KVM",
    "kvm does not support", "nitialize kvm", "nitialize KVM", "kvm_init_vcpu", "kvm_create_vcpu failed",
    "failed to get MSR", "_set_msrs", "kvm_put_msrs", "kvm_get_msrs", "utting registers after", "to put registers",
    "to get registers", "kvm_set_user_memory_region", "kvm_set_phys_mem", "no free slot available",
    "kvm_set_memory_attributes", "guest_memfd", "kvm_irqchip_commit_routes", "irqchip failed", "split IRQ",
    "_ioeventfd_", "_DEVICE_ATTR failed", "in-kernel VGIC", "in-kernel ITS", "in-kernel GIC", "for PMU", "init PMU",
    "PVTIME IPA", "not set register", "KVM AIA", "Unable to set KVM", "Unable to set ISA", "Unable to set vlenb",
    "Unable to enable ISA", "Unable to enable vlenb", "Unable to read KVM", "Unable to read ISA",
    "Unable to read vlenb", "Unable to fetch KVM", "Unable to fetch ISA", "Unable to fetch vlenb",
    "Unable to retrieve m", "get-reg-list", "KVM_GET_REG_LIST", "Unable to enable ext", "Unable to enable KVM",
    "to sync MP_STATE", "not available with KVM", "disabling extension", "in-kernel irqchip", "eVMCS version range",
    "kernel's vp_index", "HYPERV_ENFORCE_CPUID", "Unable to get KVM", "Unable to get ISA", "Unable to get vlenb",
    "KVM HPT", "-machine cap-", "KVM: could not enable", "KVM: failed to enable", "KVM PV command",
    "KVM does not support", "KVM doesn't support", "dirty ring failed", "enable KVM", "enable kvm",
    "support requested features", "X2APIC API support", "KVM with user space irqchip", "cpu_address_space_init",
    "fw_err", "open /dev/sev",
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
    "accelerator not found", "platform kvm requested", "o accelerator found", "is not supported by hypervisor",
    "not provide required features", "match specification", "for os type 'hvm'", "support virt type 'kvm'",
    "NoHypervisorFound", "krun_start_enter", "KVM: Failed to", "no hardware support", "disabled by bios",
    "already loaded the other", "already loaded vendor", "nabling virtualization on CPU", "VMX not supported by CPU",
    "Inconsistent VMCS config", "match reference config", "does not accept value", "invalid object type",
    "launch security is not supported", "setting HyperV VP_INDEX", "KVM get MSR (index=", "DIRTY_LOG failed",
    "VMX not enabled (by BIOS)", "disabled by BIOS", "unsupported by BIOS", "SVM not supported", "has_svm: ",
    "SVM disabled (by BIOS)", "VMXON faulted", "feature inconsistency", "compatibility check failed",
    "HYP mode not available", "Hyp mode", "QEMU: Checking for hardware",
    "enable dirty ring", "kvm_set_ioeventfd_", "THREAD_COUNT handler", "RAPL",
    "supported virtualization ext", "support hardware virtualiz",
    "no GICV resource", "obtain GICV resource", "no compatible GIC",
    "not page aligned", "vgic init", "hypervisor extension not available", "require SBI ", "KVM-HV: ", "kvm_hv: ",
    "could not insert", "Error inserting kvm", "Module kvm", "not support KVM extensions", "disabled by your BIOS",
    "supports vmx or svm", "permissions to use KVM", "requires hardware acceleration", "type=kvm", "KVM is not",
    "KVM virtualization is not", "KVM acceleration", "KVM support is not", "kvm is not available", "/dev/kvm",
    "Insufficient devices.kubevirt.io/kvm", "SNP Launch", "SNP launch", "SEV Launch", "SEV launch", "SecureVirt",
    "is not supported by kernel", "HyperV SynIC", "support providing", "for this guest CPU type", "support CPU models",
    "free memory slots left", "KVM API version", "ncompatible API version", "API version mismatch",
    "nitialise vcpu", "find matching target", "ost does not support", "irtualization extensions",
    "kvm is not enabled", "kvm is not loaded", "Error, CPU ", "Target CPU not supported", "supported at Stage-2",
    "value for TGRAN_2", "KVM disabled from command", "virtualization not available", "SIE is not available",
    "NV support requires", "system register tables", "initialize VMID allocator", "initialise vector slots",
    "mode without PSCI", "support MMIDs", "CP0_EBase.WG required", "ry cap-", "ppending -machine cap-", "allocate HTAB",
    "irqchip requested but", "capability level not",
    "GIC version supported", "version=host requires", "in-kernel vGICv3", "serspace GICv3", "only supports GICv2",
    "issing capability #", "CPU reset failed on CPU", "failed to inject interrupt", "KVM guest TOD clock",
    "Memory backing with", "KVM: Error querying", "KVM: Error configuring", "KVM: host CPU model",
    "Setting interrupt state", "not support PAPR", "supply 64kiB CI", "feature not supported by KVM",
    "Register sync failed", "kvm_arch_pre_run: cpu", "SLB entries, but", "KVM uses SLB", "KVM uses PTE",
    "Unable to open fd for", "KVM version doesn't", "the KVM hash table", "Hash page table resizing",
    "SVE not supported by",
    "PMU: KVM_", "set attribute (group", "kvmgic", "kvm_gic", "/gic/", "vgic",
    "to set memory (0x", "Could not install MSR_", "Split IRQ chip", "irqchip=split is not", "irqchip split mode",
    "in-kernel irqchip", "irqfd not implemented", "memory attribute private", "dirty ring size",
    "dirty ring's backup", "kvm log clear failed", "kvm_set_irq: ", "kvm_set_signal_mask: ", "synchronize CPU state",
    "injection failed, ", "setting VAPIC address", "kvmclock_ctrl: ", "guest stopping CPU", "In-kernel PIT",
    "in-kernel PIT", "TSC frequency mismatch", "requires Hyper-V", "QEMU's vp_index", "usable Hyper-V SynIC",
    "cpuid_data is full", "kvm_get_mce_cap_supported", "Unsupported MCE bank", "LMCE not supported",
    "KVM_X86_SETUP_MCE", "feature MSR list failed", "kvm: Failed to enable", "bus lock detection", "user space MSRs",
    "SGX PROVISIONKEY", "XCOMP_GUEST_PERM", "Xen HVM guest support", "Xen HVM support", "kvm: Xen support",
    "set Xen vCPU", "support GICv", "maintenance IRQ", "VGICv3 redistributor", "IRQs, but kernel",
    "interfaces, kernel only", "This operating system kernel", "Addressing limited to", "less PA bits",
    "MTE requested, but", "feature not supported by", "than 256 vcpus", "Eager Page Split", "kvm-steal-time",
    "The KVM host requires", "to set device address", "kernel register state", "write_kvmstate_to_list",
    "REG_ARM_TIMER_CNT", "vcpu events", "Enabling MISA bit", "KVM cannot disable", " in KVM, error",
    "accessing get-reg-list", "sync_mpstate_to_kvm", "scratch KVM cpu", "retrieve satp mode", "retrieve mvendorid",
    "retrieve marchid", "retrieve mimpid", "fetch ISA register", "read KVM reg", "set KVM reg", "_blocksize",
    "set 'vlen", "KVM implementation does not", "DAWR1 not supported", "level irq capability",
    "PVR setting capability", "expose the MMU features", "This KVM version does not", "too old to support VSMT",
    "ic-mode=dual", "irqchip allowed but", "TCE table for liobn", "TCE64 table for liobn", "KVM PV INFO",
    "secure execution param", "Protected VMs support", "Protected Virtualization", "reate KVM_LOONGARCH",
    "KVM_LOONGARCH_", "KVM_VM_MIPS_", "SEV is not enabled", "SEV not enabled for", "SEV feature is not",
    "query supported sev_feat", "host kernel does not", "requested SEV config", "GUID Table block not",
    "hashes table GUID", "hashes table area", "map hashes table", "reset address is zero", "SEV metadata header",
    "secret area found", "SNP does not support SMM", "CPUID entry count", "CPUID validation failed",
    "LAUNCH_UPDATE called", "check_vmsa_supported", "check_sev_features", "cgs_set_guest_", "SEV: Failed to",
    "TDX VM ", "for TDX VM", "TD attribute bits", "core crystal clock", "supported for TDX", "sha384 digest was",
    "Invalid tdx_ioctl", "TDVF metadata", "TDVF section", "TDX seems broken", "tdx_supported_cpuid", "TDX: injection",
)  # fmt: skip
# Calls and errors by name: of ioctls, of Rust's error types, of errors as Rust prints them.
_NAMES: Final = (
    "KVM_CREATE_", "KVM_SET_", "KVM_GET_", "KVM_ENABLE_CAP", "KVM_CHECK_EXTENSION", "KVM_ARM_", "KVM_MEMORY_ENCRYPT",
    "KVM_SEV_", "KVM_IRQ", "KVM_IOEVENTFD", "KVM_PPC_", "KVM_S390_", "KVM_RISCV_", "KVM_XEN_", "KVM_REG",
    "KVM_DEVICE_", "ioctl (CREATE_", "ioctl (SET_", "ioctl(CREATE_", "ioctl(SET_", "(Error(", "os error ", "{ code: ",
    "KvmNew", "KvmFd", "VmFd", "VcpuFd", "VmCreate", "CreateVm", "VcpuCreate", "CreateVcpu", "create_vm", "create_vcpu",
    "set_user_memory", "set_memory_region", "set_sregs", "set_msrs", "set_cpuid", "tsc_khz", "vcpu_init", "irqfd",
    "ioeventfd", "sregs", "SREGS", "SRegs", "xcrs", "XCRS",
)  # fmt: skip
# What is made or set, behind the end of a verb: create, creating, set, setting, putting.
_MADE: Final = (
    "vcpu", "vCPU", "VCPU", "Vcpu", "VM", "vm", "virtual machine", "microVM", "microvm", "irqchip", "IRQ chip",
    "GIC", "VGIC", "vgic",
)  # fmt: skip
_STATE: Final = (
    "cpuid", "CPUID", "Cpuid", "MSR", "msr", "Msr", "FPU", "fpu", "xsave", "XSAVE", "Lapic", "LAPIC", "lapic", "regs",
    "registers", "KVM vcpu", "core register", "one reg", "user memory", "memory region", "memory slot", "debug reg",
    "nested state", "MP state", "mp state", "vcpu events", "TSC", "identity map",
)  # fmt: skip
_PHRASES: Final = (
    "KVM VM", "KVM vm", "kvm vm", "KVM object", "Kvm object", "kvm object", "KVM device", "kvm device", "KVM: create",
    "open kvm", "open KVM", "opening KVM", "access kvm", "access KVM", "special reg", "pecial registers",
    "egment registers", "general purpose reg", "userspace memory", "user memory region", "kvm memory",
    "add memory region",
    "map memory region", "a memory region", "guest memory:", "the memory region", "nterrupt controller", "GSI rout",
    "gsi rout", "irq rout", "IRQ rout", "nterrupt rout", "device attribute", "preferred target", "nitializing the vcpu",
    "nitializing vcpu", "nitializing vCPU", "vcpu create", "vCPU create", "ucontrol VM",
    "nitialising vCPU", "nitialize vcpu", "memory attributes", "nabling capab", "nable capab",
    "nable split", "TSS addr", "tss addr", "vcpu creation", "VM creation", "the hypervisor", "vcpu to kvm",
    "vCPU to KVM",
    "kvm error", "kvm ioctl", "kvm backend", "kvm hypervisor", "VM file descriptor", "VCPU file descriptor",
    "KVM error", "KVM Error",
    "Kvm error", "KVM failed", "KVM init", "init KVM", "start KVM", "KVM ioctl", "Kvm ioctl", "KVM setup",
    "setup KVM", "set up KVM", "KVM vCPU", "KVM hypervisor", "KVM backend", "KVM platform", "KVM state", "using KVM",
    *(f"{verb}{article} {thing}" for verb in ("reate", "reating") for article in ("", " a", " the") for thing in _MADE),
    *(f"{verb} {thing}" for verb in ("et", "ting") for thing in _STATE),
)  # fmt: skip
ANCHORS: Final[Declared] = (
    *sorted(_FIRST),
    *(Anchor(text, near=_FAILED, within=512) for text in _CALLS),
    *(Anchor(text, weak=True) for text in dict.fromkeys((*OF_TABLES, *_NAMES, *_PHRASES)) if text not in _FIRST),
)
