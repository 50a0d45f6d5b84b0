"""What a host says when KVM itself cannot be had: the kernel at its start, modprobe, kvm-ok, emulators, libvirt.

These are lines of the kernel (arch/x86/kvm/x86.c kvm_arch_init, {vmx,svm}.c, virt/kvm/kvm_main.c; arch/*/kvm), and of
programs that look whether /dev/kvm is there. Older spellings are kept beside newer ones.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.setup_messages.form import Form, form

_X86: Final = "arch/x86/kvm/x86.c: kvm_arch_init (__kvm_x86_vendor_init)"
_PREFIX: Final = r"\bkvm(?: \[[0-9]{1,7}\])?: "  # kvm_info and kvm_err, include/linux/kvm_host.h
_MAIN: Final = "virt/kvm/kvm_main.c"
_WITHIN: Final = r"(?:.|\n){0,240}"

FORMS: Final[tuple[Form, ...]] = (
    form(
        "module",
        "no-hardware",
        r"\bkvm: no hardware support(?: for '(?P<module>[a-z_]{3,12})')?",
        "no hardware support",
        source=_X86,
    ),
    form(
        "module",
        "disabled-by-bios",
        r"\bkvm: (?:support for '(?P<module>[a-z_]{3,12})' )?disabled by bios",
        "disabled by bios",
        source=_X86,
    ),
    form(
        "module",
        "other-module",
        r"\bkvm: already loaded (?:the other module|vendor module '(?P<module>[a-z_]{3,12})')",
        "already loaded the other",
        "already loaded vendor",
        source=_X86,
    ),
    form(
        "module",
        "enable-failed",
        r"\bkvm: enabling virtualization on CPU ?(?P<cpu>[0-9]{1,5}) failed",
        "nabling virtualization on CPU",
        source=f"{_MAIN}: hardware_enable_nolock, __kvm_enable_virtualization",
    ),
    form(
        "module",
        "no-hardware",
        r"\b(?:kvm_intel: )?VMX not supported by CPU ?[0-9]{1,5}",
        "VMX not supported by CPU",
        source="arch/x86/kvm/vmx/vmx.c: __kvm_is_vmx_supported",
    ),
    form(
        "module",
        "disabled-by-bios",
        r"\b(?:kvm_intel: )?VMX not enabled \(by BIOS\) in MSR_IA32_FEAT_CTL",
        "VMX not enabled (by BIOS)",
        source="arch/x86/kvm/vmx/vmx.c: __kvm_is_vmx_supported",
    ),
    form(
        "module",
        "disabled-by-bios",
        r"VMX \((?:inside|outside) TXT\) disabled by BIOS|SGX/VMX disabled or unsupported by BIOS",
        "disabled by BIOS",
        "unsupported by BIOS",
        source="arch/x86/kernel/cpu/feat_ctl.c: init_ia32_feat_ctl",
    ),
    form(
        "module",
        "no-hardware",
        r"\bSVM not supported by CPU ?[0-9]{1,5}|has_svm: (?:not amd|svm not available)"
        r"|\bSVM not supported, [^\n]{2,60}",
        "SVM not supported",
        "has_svm: ",
        source="arch/x86/kvm/svm/svm.c: __kvm_is_svm_supported",
    ),
    form(
        "module",
        "disabled-by-bios",
        r"\bSVM disabled \(by BIOS\)(?: in MSR_VM_CR)?",
        "SVM disabled (by BIOS)",
        source="arch/x86/kvm/svm/svm.c: __kvm_is_svm_supported",
    ),
    form(
        "module",
        "vmxon-failed",
        r"\bVMXON faulted, MSR_IA32_FEAT_CTL \(0x3a\) = (?P<value>0x[0-9a-f]{1,16})",
        "VMXON faulted",
        source="arch/x86/kvm/vmx/vmx.c: kvm_cpu_vmxon",
        follows=True,
    ),
    form(
        "module",
        "inconsistent-cpus",
        r"\bkvm: CPU ?[0-9]{1,5} feature inconsistency|CPU compatibility check failed"
        r"|Inconsistent VMCS config on CPU ?[0-9]{1,5}|VMCS config on CPU ?[0-9]{1,5} doesn't match reference config"
        r"|kvm: mismatched? (?:VMCS|vmcs)[^\n]{0,40}",
        "feature inconsistency",
        "compatibility check failed",
        "Inconsistent VMCS config",
        "match reference config",
        source="arch/x86/kvm/vmx/vmx.c: vmx_check_processor_compat",
    ),
    # arm64, loongarch, s390x, mips, riscv64, ppc64
    form(
        "module",
        "no-hyp-mode",
        r"H(?:YP|yp) mode not available",
        "HYP mode not available",
        "Hyp mode",
        source="arch/arm64/kvm/arm.c: kvm_arm_init",
    ),
    form(
        "module",
        "no-hyp-mode",
        r"\bkvm \[[0-9]{1,7}\]: (?:error initializing Hyp mode|Cannot run in Hyp mode"
        r"|Hyp mode initialization failed|error initialising Hyp mode)",
        "Hyp mode",
        source="arch/arm64/kvm/arm.c",
    ),
    form(
        "module",
        "cpu-not-supported",
        r"\bkvm \[[0-9]{1,7}\]: (?:Error, CPU [0-9]{1,5} not supported!|Target CPU not supported!"
        r"|PAGE_SIZE not supported at Stage-2, giving up|Unsupported value for TGRAN_2, giving up)",
        "Error, CPU ",
        "Target CPU not supported",
        "supported at Stage-2",
        "value for TGRAN_2",
        source="virt/kvm/arm/arm.c: kvm_arch_init (until 5.6); arch/arm64/kvm/reset.c: kvm_set_ipa_limit",
    ),
    form(
        "module",
        "disabled-by-parameter",
        rf"{_PREFIX}KVM disabled from command line",
        "KVM disabled from command",
        source="arch/arm64/kvm/arm.c: kvm_arm_init, for kvm-arm.mode=none",
        arch="arm64",
    ),
    form(
        "module",
        "mode-not-possible",
        rf"{_PREFIX}(?:NV support requires GICv3[^\n]{{0,60}}|Cannot initialize protected mode without PSCI)",
        "NV support requires",
        "mode without PSCI",
        source="arch/arm64/kvm/arm.c: init_subsystems, init_psci_relay",
        arch="arm64",
    ),
    form(
        "module",
        "init-failed",
        rf"{_PREFIX}(?:Error initializing system register tables|Failed to initialize VMID allocator"
        r"|Cannot initialise vector slots)",
        "system register tables",
        "initialize VMID allocator",
        "initialise vector slots",
        source="arch/arm64/kvm/arm.c: kvm_arm_init",
        arch="arm64",
    ),
    form(
        "module",
        "not-offered-by-cpu",
        rf"{_PREFIX}Hardware virtualization not available",
        "virtualization not available",
        source="arch/loongarch/kvm/main.c: kvm_loongarch_init",
        arch="loongarch",
    ),
    form(
        "module",
        "not-offered-by-cpu",
        r"\bkvm(?:-s390(?:\.[0-9a-f]{6})?)?: SIE is not available",
        "SIE is not available",
        source="arch/s390/kvm/kvm-s390.c: kvm_s390_init",
        arch="s390x",
    ),
    form(
        "module",
        "not-offered-by-cpu",
        r"KVM does not yet support MMIDs\. KVM Disabled|CP0_EBase\.WG required for guest exception base",
        "support MMIDs",
        "CP0_EBase.WG required",
        source="arch/mips/kvm/mips.c: kvm_mips_init; arch/mips/kvm/vz.c",
        arch="mips",
    ),
    form(
        "module",
        "vgic",
        r"kvm \[[0-9]{1,7}\]: (?:no GICV resource entry|Cannot obtain GICV resource"
        r"|error: no compatible GIC node|vgic[^\n]{0,20}fail[^\n]{0,40}|GICv[23] (?:physical"
        r"|virtual)[^\n]{0,40}not page aligned)",
        "no GICV resource",
        "obtain GICV resource",
        "no compatible GIC",
        "not page aligned",
        "vgic init",
        source="arch/arm64/kvm/vgic/vgic-v2.c, vgic-v3.c, vgic-init.c",
        follows=True,
    ),
    form(
        "module",
        "not-offered-by-cpu",
        r"hypervisor extension not available",
        "hypervisor extension not available",
        source="arch/riscv/kvm/main.c: riscv_kvm_init",
        arch="riscv64",
    ),
    form(
        "module",
        "firmware-too-old",
        r"require SBI (?:v0\.2 or higher|RFENCE extension)",
        "require SBI ",
        source="arch/riscv/kvm/main.c: riscv_kvm_init",
        arch="riscv64",
    ),
    form(
        "module",
        "not-offered-by-cpu",
        r"KVM-HV: Host does not support[^\n]{0,60}|kvm_hv: (?:Host|Failed)[^\n]{2,60}",
        "KVM-HV: ",
        "kvm_hv: ",
        source="arch/powerpc/kvm/book3s_hv.c: kvmppc_book3s_init_hv",
        arch="ppc64",
    ),
    # Loading the modules
    form(
        "module",
        "modprobe",
        r"could not insert (?:module )?'?(?:[\w./-]{0,60}/)?(?P<module>kvm(?:[_-](?:intel|amd|hv"
        r"|pr))?)(?:\.ko(?:\.[xzg][a-z]{1,2})?)?'?:?",
        "could not insert",
        source="kmod tools/modprobe.c, insmod.c",
    ),
    form(
        "module",
        "modprobe",
        r"(?:FATAL: )?(?:Error inserting|Module) (?P<module>kvm(?:[_-](?:intel|amd|hv"
        r"|pr))?) (?:\([^\n()]{1,120}\)|not found)",
        "Error inserting kvm",
        "Module kvm",
        source="module-init-tools modprobe.c; kmod tools/modprobe.c",
    ),
    # kvm-ok of cpu-checker
    form(
        "module",
        "no-hardware",
        r"CPU does not support KVM extensions",
        "not support KVM extensions",
        source="cpu-checker kvm-ok",
    ),
    form(
        "module",
        "disabled-by-bios",
        r"KVM \((?:vmx|svm)\) is disabled by your BIOS|KVM has been disabled by BIOS",
        "disabled by your BIOS",
        "been disabled by BIOS",
        source="cpu-checker kvm-ok; Harvester's dashboard",
    ),
    form(
        "open",
        "device",
        r"INFO: /dev/kvm does not exist",
        "/dev/kvm does not exist",
        source="cpu-checker kvm-ok",
        errno="ENOENT",
        follows=True,
    ),
    form(
        "open",
        "device",
        r"KVM acceleration can NOT be used",
        "KVM acceleration",
        source="cpu-checker kvm-ok",
        follows=True,
    ),
    form(
        "module",
        "no-hardware",
        r"(?:find|have) (?:any |a )?supported virtuali[sz]ation extension|does not support hardware virtuali[sz]ation",
        "supported virtualization ext",
        "support hardware virtualiz",
        source="kvmtool",
    ),
    # virt-host-validate of libvirt
    form(
        "module",
        "no-hardware",
        r"QEMU: Checking for hardware virtuali[sz]ation\x20{1,99}: FAIL",
        "QEMU: Checking for hardware",
        source="tools/virt-host-validate-qemu.c",
        vmm="libvirt",
    ),
    form(
        "open",
        "device",
        r"QEMU: Checking if device '?/dev/kvm'? (?:exists|is accessible)\x20{1,99}: FAIL",
        "/dev/kvm",
        source="tools/virt-host-validate-qemu.c",
        vmm="libvirt",
        follows=True,
    ),
    # The Android emulator
    form(
        "module",
        "no-hardware",
        r"KVM requires a CPU that supports vmx or svm",
        "supports vmx or svm",
        vmm="android-emulator",
        source="external/qemu android/emulation/CpuAccelerator.cpp",
    ),
    form(
        "open",
        "device",
        r"/dev/kvm is not found|KVM is not installed on this machine",
        "/dev/kvm is not found",
        "KVM is not installed",
        vmm="android-emulator",
        source="external/qemu CpuAccelerator.cpp",
        errno="ENOENT",
    ),
    form(
        "open",
        "device",
        r"This user doesn't have permissions to use KVM|/dev/kvm device: permission denied"
        r"|have permission to access /dev/kvm",
        "permissions to use KVM",
        "/dev/kvm device",
        "access /dev/kvm",
        vmm="android-emulator",
        source="external/qemu CpuAccelerator.cpp",
        errno="EACCES",
    ),
    form(
        "open",
        "device",
        # On Windows and macOS it goes on with the name of that system's own accelerator.
        rf"emulation currently requires hardware acceleration(?!{_WITHIN}(?:HAXM|HAX\b|AEHD|WHPX|hypervisor driver"
        r"|Hypervisor\.[Ff]ramework))",
        "requires hardware acceleration",
        vmm="android-emulator",
        source="external/qemu main-common.c",
        follows=True,
    ),
    # libvirt and what stands on it
    form(
        "open",
        "domain-requires-kvm",
        r"Domain requires KVM, but it is not available",
        "Domain requires KVM",
        vmm="libvirt",
        source="src/qemu/qemu_process.c: qemuProcessStartValidate",
    ),
    form(
        "open",
        "domain-requires-kvm",
        r"could not find capabilities for (?:domaintype|virttype)=kvm|could not get preferred machine "
        r"for [^\n]{1,120} type=kvm|KVM is not supported by '[^'\n]{1,120}' on this host"
        r"|invalid argument: [^\n]{0,60}virttype=kvm",
        "type=kvm",
        "KVM is not supported by",
        vmm="libvirt",
        source="src/conf/capabilities.c; src/qemu/qemu_capabilities.c",
    ),
    form(
        "open",
        "device",
        r"KVM (?:kernel module |support |virtuali[sz]ation |acceleration )?is not (?:loaded|available|enabled|supported"
        r"|usable|installed|accessible)(?! for this guest CPU| within| in the| by default)"
        r"|KVM acceleration not (?:available|detected)"
        r"|(?:(?m:^)[\t\x20]{0,4}|[:>\"\]'] )'?kvm(?:[_-](?:intel|amd))?'? (?:kernel )?module (?:is )?not"
        r" (?:loaded|found)"
        r"|kvm is not (?:available|enabled|loaded)",
        "KVM kernel module is not",
        "KVM is not",
        "KVM virtualization is not",
        "KVM acceleration",
        "KVM support is not",
        "kvm is not available",
        "kvm is not enabled",
        "kvm is not loaded",
        "module not loaded",
        "module not found",
        "module is not loaded",
        "module is not found",
        source="virt-manager, crc, multipass, gnome-boxes, docker desktop",
        errno=None,
    ),
    form(
        "open",
        "device",
        r"/dev/kvm'? (?:does not exist|doesn't exist|not found|is missing|not present|is not (?:present"
        r"|available))|\b(?:missing|can't find|cannot find) /dev/kvm\b",
        "/dev/kvm",
        source="many",
        errno="ENOENT",
    ),
    form(
        "open",
        "device",
        r"/dev/kvm is not (?:accessible|writable|readable|usable)",
        "/dev/kvm is not",
        source="many",
        errno="EACCES",
    ),
    form(
        "open",
        "device",
        r"\[libcrun:[a-z]{3,12}\]: `/dev/kvm` unavailable",
        "`/dev/kvm` unavailable",
        source="crun src/libcrun/handlers/krun.c",
    ),
    form(
        "open",
        "device",
        r"Insufficient devices\.kubevirt\.io/kvm",
        "Insufficient devices.kubevirt.io/kvm",
        source="kubevirt's device plugin: a node without /dev/kvm",
        errno="ENOENT",
    ),
    form(
        "open",
        "domain-requires-kvm",
        r"[Hh]ost does not support (?:any virtuali[sz]ation options|domain type kvm|virtuali[sz]ation type 'hvm')"
        r"|[Vv]irtuali[sz]ation extensions (?:are|is) (?:unavailable|not available)",
        "Host does not support",
        "host does not support",
        "irtualization extensions",
        source="virt-install, GNOME Boxes",
    ),
)
