"""gem5's panics about a refused set-up: src/cpu/kvm, src/arch/{arm,x86}/kvm of 2013 to 2026.

Most print no errno, and newer releases put the file and the line before them.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.setup_messages.form import Form, form, forms

_VM: Final = "gem5 src/cpu/kvm/vm.cc"
_CPU: Final = "gem5 src/cpu/kvm/base.cc"
_X86: Final = "gem5 src/arch/x86/kvm/x86_cpu.cc"
_ARM: Final = "gem5 src/arch/arm/kvm/{arm,base}_cpu.cc"
_PANIC: Final = r"(?:panic|fatal): (?:KVM: )?"

FORMS: Final[tuple[Form, ...]] = (
    form(
        "KVM_SET_ONE_REG",
        "one-register",
        r"KVM: Failed to set register \((?P<register>0x[0-9a-f]{1,16})\)?",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_CPU}: setOneReg",
    ),
    form(
        "KVM_GET_ONE_REG",
        "one-register",
        r"KVM: Failed to get register \((?P<register>0x[0-9a-f]{1,16})\)?",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_CPU}: getOneReg",
    ),
    form(
        "KVM_GET_REG_LIST",
        "one-register",
        rf"{_PANIC}Failed to (?:get vCPU register list|determine register list size)",
        "get vCPU register list",
        "register list size",
        vmm="gem5",
        source=f"{_ARM}: getRegList",
        arch="arm64",
    ),
    form(
        "KVM_SET_DEVICE_ATTR",
        "device-attribute",
        r"panic: Failed to set attribute \(group: [0-9]{1,4}, attr: [0-9]{1,20}(?=, errno)",
        "set attribute (group",
        vmm="gem5",
        source="gem5 src/cpu/kvm/device.cc: setAttr",
    ),
    form(
        "KVM_GET_DEVICE_ATTR",
        "device-attribute",
        r"panic: Failed to get attribute \(group: [0-9]{1,4}, attr: [0-9]{1,20}(?=, errno)",
        "get attribute (group",
        vmm="gem5",
        source="gem5 src/cpu/kvm/device.cc: getAttr",
    ),
    *(
        form(
            f"KVM_{verb.upper()}_{call}",
            detail,
            rf"KVM: Failed to {verb} {words}",
            "KVM: Failed to",
            vmm="gem5",
            source=source,
        )
        for verb in ("set", "get")
        for call, detail, words, source in (
            ("SREGS", "special-registers", r"(?:guest )?special registers", _CPU),
            ("REGS", "general-registers", r"guest registers", _CPU),
            ("FPU", "fpu", r"guest FPU state", _CPU),
            ("DEBUGREGS", "debug-registers", r"guest debug registers", _X86),
            ("MSRS", "msr", r"guest MSRs", _X86),
        )
    ),
    form(
        "KVM_SET_CPUID2",
        "cpuid",
        r"KVM: Failed to set guest CPUID2",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_X86}: setCPUID",
        arch="x86",
    ),
    form(
        "KVM_ARM_VCPU_INIT",
        "vcpu-init",
        rf"{_PANIC}Failed to (?:initialize vCPU|get ARM preferred CPU target)",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_ARM}: kvmArmVCpuInit; {_VM}: kvmArmPreferredTarget",
        arch="arm64",
    ),
    form(
        "KVM_CREATE_VM",
        "vm",
        rf"{_PANIC}Failed to create KVM VM",
        "create KVM VM",
        vmm="gem5",
        source=f"{_VM}: Kvm::createVM",
    ),
    form(
        "KVM_CREATE_VCPU",
        "vcpu",
        rf"{_PANIC}Failed to create virtual CPU",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_VM}: createVCPU",
    ),
    form(
        "KVM_CREATE_DEVICE",
        "vgic",
        rf"{_PANIC}Failed to create device",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_VM}: createDevice",
    ),
    form(
        "KVM_SET_USER_MEMORY_REGION",
        "memory-region",
        rf"{_PANIC}Failed to setup KVM memory region:",
        "setup KVM memory region",
        vmm="gem5",
        source=f"{_VM}: setUserMemoryRegion",
    ),
    form(
        "KVM_SET_TSS_ADDR",
        "tss-address",
        r"KVM: Failed to set VM TSS address",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_VM}: setTSSAddress",
        arch="x86",
    ),
    *forms(
        "KVM_IRQ_LINE",
        "interrupt",
        (rf"{_PANIC}Failed to set IRQ line level", "KVM: Failed to"),
        (rf"{_PANIC}Failed to deliver (?:NMI|interrupt) to virtual CPU", "KVM: Failed to"),
        vmm="gem5",
        source=f"{_VM}: setIRQLine; {_CPU}: kvmInterrupt",
    ),
    form(
        "KVM_GET_VCPU_MMAP_SIZE",
        "device",
        rf"{_PANIC}(?:Failed to get virtual CPU MMAP size|Failed to map run data structure)",
        "KVM: Failed to",
        vmm="gem5",
        source=f"{_VM}: Kvm::Kvm; {_CPU}: startup",
    ),
    form(
        "KVM_CHECK_EXTENSION",
        "missing-capability",
        rf"{_PANIC}Missing capability \((?P<capability>KVM_CAP_[A-Z0-9_]{{3,30}})\)",
        "Missing capability (KVM",
        vmm="gem5",
        source=f"{_X86}: X86KvmCPU; {_VM}: KvmVM",
    ),
)
