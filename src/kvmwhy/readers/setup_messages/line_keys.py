"""The words that lead to a line in which a refused set-up may be told in words of its own.

They are combined: a verb before what is made or set. What an input must hold for this reader to be asked at all is
declared apart from them, in ``readers.anchors``: the fewer, the faster every other input is read.
"""

from __future__ import annotations

from typing import Final

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
LINE_KEYS: Final = (
    "kvm error", "kvm ioctl", "kvm backend", "kvm hypervisor", "kvm vcpu", "file descriptor", "KVM error", "Kvm error",
    "KVM failed", "KVM init", "init KVM", "start KVM", "KVM ioctl", "Kvm ioctl", "KVM setup", "setup KVM", "set up KVM",
    "KVM vCPU", "KVM hypervisor", "KVM backend", "KVM platform", "KVM state", "using KVM",
    "KVM error", "Kvm error", "KVM failed", "KVM init", "init KVM", "start KVM", "KVM ioctl", "Kvm ioctl", "KVM setup",
    "setup KVM", "set up KVM", "KVM vCPU", "KVM hypervisor", "KVM backend", "KVM platform", "KVM state", "using KVM",
    "KVM_TDX_", "KVM_CAP_", "/dev/kvm", "guest_memfd", "such register: reg=", "KVM capabilit", "kvm capabilit",
    "KVM_CREATE_", "KVM_SET_", "KVM_GET_", "KVM_ENABLE_CAP", "KVM_CHECK_EXTENSION", "KVM_ARM_", "KVM_MEMORY_ENCRYPT",
    "KVM_INIT_", "KVM_SEV_", "KVM_IRQ", "KVM_IOEVENTFD", "KVM_PPC_", "KVM_S390_", "KVM_RISCV_", "KVM_XEN_",
    "KVM_REG", "KVM_ASSIGN_", "KVM_DEVICE_", "KVM_PRE_FAULT", "KVM_CLEAR_DIRTY", "KVM_RESET_DIRTY",
    "KVM_SIGNAL_MSI", "ioctl (CREATE_", "ioctl (SET_", "ioctl(CREATE_", "ioctl(SET_", "ioctl (ENABLE_",
    "ioctl(ENABLE_", "VmFd", "VcpuFd", "KvmNew", "KvmFd", "CreateVm", "VmCreate", "createVM", "VcpuCreate",
    "CreateVcpu", "create_vcpu", "create_vm", "HypervisorCreate", "KvmCreate", "CreateKvm", "OpenKvm", "NewKvm",
    "NewVcpu", "InitKvm", "KvmInit", "Kvm(Error", "KVM Error",
    "VM creation", "vcpu creation", "vm creation", "CreateGuestMemfd",
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
    "nitializing vcpu", "nitializing vCPU", "nitialise vcpu", "vcpu create", "vCPU create", "ucontrol VM",
    "nitialising vCPU", "nitialize vcpu", "SetOneReg", "CoreRegister", "invalid register ID",
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
