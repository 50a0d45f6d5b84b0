"""Exact messages of VMMs other than QEMU, and of the programs that start VMs, about a refused set-up."""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.setup_messages.form import NUMBER, Form, form

_CAPABILITY: Final = r"[\s\[:`'\"]{0,12}(?P<capability>(?:KVM_CAP_)?[A-Za-z0-9_]{3,40}|0x[0-9a-f]{1,6})?"

FORMS: Final[tuple[Form, ...]] = (
    # Cloud Hypervisor, Dragonball, Firecracker: each writes the MSRs until one is refused, and names that one.
    form(
        "KVM_SET_MSRS",
        "msr",
        rf"[Dd]etected faulty MSR (?P<msr>{NUMBER})",
        "etected faulty MSR",
        vmm="cloud-hypervisor",
        source="cloud-hypervisor hypervisor/src/kvm/mod.rs: set_state",
    ),
    form(
        "KVM_SET_MSRS",
        "msr",
        r"(?:[Ff]ailed|[Uu]nable) to (?:set|write) (?:KVM )?(?:vcpu )?(?:MSR"
        r"|msr):? (?P<msr>0x[0-9a-fA-F]{1,8})(?! to )(?:[^\n]{0,30}?(?:value"
        r"|=) (?P<value>0x[0-9a-fA-F]{1,16}))?",
        "to set MSR",
        "to write MSR",
        "to set msr",
        "to write msr",
        "to set KVM MSR",
        "to set vcpu MSR",
        source="firecracker src/vmm/src/arch/x86_64/vcpu.rs and others",
    ),
    form(
        "KVM_GET_MSRS",
        "msr",
        rf"[Ff]ailed to get KVM vcpu msr: (?P<msr>{NUMBER})",
        "KVM vcpu msr",
        vmm="firecracker",
        source="firecracker src/vmm/src/arch/x86_64/vcpu.rs",
    ),
    form(
        "KVM_SET_MSRS",
        "msr",
        r"Failed to set all KVM MSRs for this vCPU",
        "all KVM MSRs",
        vmm="firecracker",
        source="firecracker src/vmm/src/arch/x86_64/vcpu.rs: VcpuSetMsrsIncomplete",
    ),
    form(
        "KVM_SET_MSRS",
        "msr",
        r"Some MSRs could not be set",
        "MSRs could not be set",
        source="cloud-hypervisor arch/src/x86_64/regs.rs: SetModelSpecificRegistersCount",
    ),
    form(
        "KVM_SET_ONE_REG",
        "one-register",
        rf"[Ff]ailed to set (?:KVM )?(?:ARM )?(?:register|reg) (?P<register>{NUMBER}) to value",
        "to set register",
        "to set reg",
        vmm="firecracker",
        source="firecracker src/vmm/src/arch/aarch64/vcpu.rs",
    ),
    form(
        "KVM_SET_ONE_REG",
        "one-register",
        r"(?:invalid register ID, or )?no such register: reg=(?P<register>0x[0-9a-f]{1,16})",
        "such register: reg=",
        source="unidbg's kvm backend",
    ),
    form(
        "KVM_CHECK_EXTENSION",
        "missing-capability",
        rf"[Mm]issing (?:required )?(?:KVM|kvm) capabilit(?:y|ies){_CAPABILITY}",
        "KVM capabilit",
        "kvm capabilit",
        source="firecracker src/vmm/src/vstate/kvm.rs; dragonball",
    ),
    form(
        "KVM_CHECK_EXTENSION",
        "missing-capability",
        r"(?:KVM: |kvm: )?missing capability:? (?P<capability>KVM_CAP_[A-Z0-9_]{2,40})",
        "issing capability",
        source="cloud-hypervisor hypervisor/src/kvm/mod.rs: check_required_extensions",
    ),
    form(
        "KVM_CHECK_EXTENSION",
        "missing-capability",
        r"(?P<capability>KVM_CAP_[A-Z0-9_]{2,40}) (?:is )?(?:not (?:supported|available|present)"
        r"|unsupported|missing|unavailable)\b",
        "KVM_CAP_",
        source="many",
    ),
    form(
        "KVM_CHECK_EXTENSION",
        "missing-capability",
        r"Required (?:KVM )?extensions? (?P<capability>(?:KVM_CAP_)?[A-Za-z0-9_]{3,40}) (?:is )?(?:missing"
        r"|not supported)|"
        r"(?:KVM )?[Cc]apability missing: (?P<missing>[A-Za-z0-9_]{3,40})",
        "Required extension",
        "Required KVM extension",
        "apability missing",
        source="crosvm, cloud-hypervisor, kvmtool",
    ),
    form(
        "KVM_ENABLE_CAP",
        "disable-exits",
        r"Unable to disable exi(?:s?ts) due",
        "to disable exis",
        "to disable exit",
        vmm="uhyve",
        source="uhyve src/linux/x86_64/kvm_cpu.rs: init",
    ),
    form(
        "KVM_SET_DEVICE_ATTR",
        "gic-state",
        r"Error while setting or getting device attributes for the GIC",
        "attributes for the GIC",
        vmm="firecracker",
        source="firecracker src/vmm/src/arch/aarch64/gic/mod.rs",
    ),
    form(
        "KVM_CREATE_DEVICE",
        "vgic",
        r"Error while calling KVM ioctl for setting up the global interrupt controller",
        "global interrupt controller",
        vmm="firecracker",
        source="firecracker src/vmm/src/arch/aarch64/gic/mod.rs",
    ),
    # Programs that start VMs
    form(
        "open",
        "device",
        r"KVM virtuali[sz]ation configured, but not available",
        "configured, but not available",
        vmm="qemu",
        source="Proxmox qemu-server PVE/QemuServer.pm",
    ),
    form(
        "open",
        "cpu-model-needs-kvm",
        r"CPU model '(?:host|max)' requires KVM",
        "requires KVM",
        vmm="qemu",
        source="QEMU target/i386/cpu.c, hw/core",
        follows=True,
    ),
    form(
        "open",
        "accelerator-not-built",
        r"invalid accelerator ['\"]?kvm\b|KVM not supported for this target|\"kvm\" accelerator not found"
        r"|[Nn]o accelerator found",
        "invalid accelerator",
        "KVM not supported for",
        "accelerator not found",
        "o accelerator found",
        vmm="qemu",
        source="QEMU accel/accel-system.c, vl.c: configure_accelerator",
    ),
    form(
        "open",
        "domain-requires-kvm",
        r"CPU mode 'host-(?:passthrough|model)' for [a-z0-9_]{2,12} qemu domain on [a-z0-9_]{2,12} host is"
        r" not supported by hypervisor",
        "is not supported by hypervisor",
        vmm="libvirt",
        source="libvirt src/qemu/qemu_process.c",
    ),
    form(
        "KVM_GET_SUPPORTED_CPUID",
        "features",
        r"[Hh]ost CPU does not provide required features: (?P<register>[a-z0-9_.,\x20-]{1,200})",
        "not provide required features",
        vmm="libvirt",
        source="libvirt src/cpu/cpu_x86.c: x86Compute",
    ),
    form(
        "KVM_GET_SUPPORTED_CPUID",
        "features",
        # YAML doubles the apostrophe.
        r"guest CPU doesn''?t match specification: (?:missing|extra) features: (?P<register>[a-z0-9_.,\x20-]{1,200})",
        "match specification",
        vmm="libvirt",
        source="libvirt src/qemu/qemu_process.c: qemuProcessVerifyCPUFeatures",
    ),
    form(
        "open",
        "domain-requires-kvm",
        r"no supported architecture for os type 'hvm'|[Ee]mulator '[^'\n]{1,120}' does not support virt type 'kvm'",
        "for os type 'hvm'",
        "support virt type 'kvm'",
        vmm="libvirt",
        source="libvirt src/conf/capabilities.c, src/qemu/qemu_process.c",
    ),
    form(
        "open",
        "device",
        r"\bNoHypervisorFound\b",
        "NoHypervisorFound",
        vmm="hyperlight",
        source="hyperlight src/hyperlight_host/src/error.rs",
    ),
    form(
        "libkrun",
        "libkrun-start",
        r"krun_start_enter (?:failed|returned)",
        "krun_start_enter",
        vmm="libkrun",
        source="programs on libkrun: krun_start_enter returns a negative errno",
        follows=True,
    ),
    form(
        "KVM_SET_ONE_REG",
        "one-register",
        r"KVM: Failed to (?:set|get) register \((?P<register>0x[0-9a-f]{1,16})\)?",
        "KVM: Failed to",
        vmm="gem5",
        source="gem5 src/arch/arm/kvm, src/cpu/kvm/base.cc",
    ),
    form(
        "KVM_SET_SREGS",
        "special-registers",
        r"KVM: Failed to set (?:guest )?special registers",
        "KVM: Failed to",
        vmm="gem5",
        source="gem5 src/arch/x86/kvm, src/cpu/kvm/base.cc",
    ),
    form(
        "KVM_GET_API_VERSION",
        "version-too-old",
        r"reports an invalid KVM API version|[Ii]ncompatible (?:KVM )?API version|KVM: API version mismatch",
        "KVM API version",
        "ncompatible API version",
        "API version mismatch",
        source="firecracker src/vmm/src/vstate/kvm.rs; cloud-hypervisor hypervisor/src/hypervisor.rs; km",
    ),
    form(
        "KVM_ARM_VCPU_INIT",
        "vcpu-init",
        r"Unable to initialise vcpu|Unable to find matching target",
        "Unable to initialise vcpu",
        "find matching target",
        vmm="kvmtool",
        source="kvmtool arm/kvm-cpu.c: kvm_cpu__arch_init",
    ),
)
