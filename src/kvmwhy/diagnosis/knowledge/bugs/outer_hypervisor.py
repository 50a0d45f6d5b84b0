"""Bugs of what runs around this host: KVM itself is a guest there."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.svm import VMEXIT_INVALID
from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.kernel_version import Affected
from kvmwhy.diagnosis.knowledge.predicate import Shape

_VMWARE, _KVM = ("vmware", "esx"), ("kvm", "qemu")
_HYPER_V = ("hyper-v", "hyperv", "microsoft", "azure", "wsl")
_NO_UNRESTRICTED = (
    "Load kvm_intel with unrestricted_guest=0 (/etc/modprobe.d), then reload it or reboot; update VMware, or run KVM on"
    " real hardware."
)

BUGS: Final = (
    Bug(
        id="bug-vmware-unrestricted-guest",
        title="VMware's nested VT-x refuses KVM's entries with unrestricted guest",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=(7,), hypervisor=_VMWARE),
        what=(
            "VMware Workstation, Fusion and ESXi offer unrestricted guest to a KVM inside them, but refuse some of the"
            " entries that use it: at the first start of a VM, or after it reboots. The VM pauses and can only be"
            " reset."
        ),
        fix=Fix(host=_NO_UNRESTRICTED),
        references=(
            "https://github.com/kata-containers/kata-containers/issues/11281",
            "arch/x86/kvm/vmx/vmx.c: unrestricted_guest",
        ),
        example=(
            "KVM: entry failed, hardware error 0x7 at the reset vector; /proc/cpuinfo has hypervisor, DMI says VMware"
        ),
        confused_with="outer-hypervisor-entry: the same number where nothing shows what runs around the host.",
        corpus=("083-vmware-nested-unrestricted-guest-0x7", "085-android-avd-vmware-nested-0x7"),
    ),
    Bug(
        id="bug-vmware-int-in-real-mode",
        title="A nested entry was refused at an INT of the BIOS in real mode",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=(7,), mode=("real16",), reset=("ran",), bytes=(b"\xcd",)),
        what=(
            "SeaBIOS had started, and the entry at an INT instruction failed: the outer hypervisor did not take what"
            " KVM asked it to inject. Reported under VMware Fusion, and cured there by a parameter of kvm_intel."
        ),
        fix=Fix(host=_NO_UNRESTRICTED),
        references=("https://github.com/Linutronix/elbe/issues/294",),
        example="hardware error 0x7 at cd 10, CS=c980, under VMware Fusion",
        confused_with="bug-real-mode-error-code: KVM's own bug, where the injected event has an error code.",
        also=("bug-vmware-unrestricted-guest",),
    ),
    Bug(
        id="bug-hyperv-nested-svm-smm",
        same="nested-svm-smm",
        title="Hyper-V and WSL 2 on AMD cannot enter SMM in a nested guest",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=VMEXIT_INVALID, smm=True, rip=(0x8000,)),
        hints=Shape(hypervisor=_HYPER_V),
        what=(
            "Firmware with Secure Boot raises SMIs. The state that KVM makes for the handler is refused where KVM"
            " itself runs under Hyper-V on an AMD CPU, WSL 2 among them: the guest dies as soon as the firmware hands"
            " over."
        ),
        fix=Fix(
            vmm="Use OVMF without SMM (OVMF_CODE.fd instead of the .ms or .secboot build) and -machine smm=off.",
            host="Run KVM on real hardware, or use TCG.",
        ),
        references=("https://github.com/dockur/windows/issues/224", "arch/x86/kvm/smm.c: enter_smm"),
        example="hardware error 0xffffffff, EIP=00008000, SMM=1, under WSL 2 on a Ryzen",
        confused_with="bug-smi-in-sti-shadow: Intel's number for the same moment is 0x80000021.",
    ),
    Bug(
        id="bug-hyperv-nested-svm-cpu-host",
        title="Nested guests on AMD under Hyper-V fail with -cpu host",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=VMEXIT_INVALID, smm=False, hypervisor=_HYPER_V),
        what=(
            "With the host's CPU model the guest sees features that nested SVM under Hyper-V does not carry."
            " Microsoft's own test suite looks for this number when it gives a nested guest the host's model."
        ),
        fix=Fix(vmm="Give the guest a named CPU model (-cpu EPYC) instead of host."),
        references=("https://github.com/microsoft/lisa: the tool Qemu, ERROR_WHEN_USE_HOST_CPU",),
        example="hardware error 0xffffffff on an Azure VM with an AMD CPU",
        confused_with="bug-hyperv-nested-svm-smm: there the vCPU is in SMM.",
    ),
    Bug(
        id="bug-azure-evmcs-field",
        same="evmcs-field-missing",
        title="KVM of 5.4 uses a VMCS field that Hyper-V's enlightened VMCS does not have",
        origin="host-kernel",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=(0, 7, 0x8000_0021), events=("evmcs-field",)),
        versions=Affected(fixed="5.15"),
        at_most="possible",
        what=(
            "Azure's Dv5 and Ev5 offer TSC scaling. A KVM inside writes the multiplier (field 2032) through the"
            " enlightened VMCS, which has no place for it, and warns; its nested guests then do not start."
        ),
        fix=Fix(host="Use a newer kernel in the Azure VM, or another size of VM."),
        references=("https://github.com/microsoft/lisa/pull/2607",),
        example="KVM: accessing unsupported EVMCS field 2032, on 5.4.0-1048-azure",
        confused_with="outer-hypervisor-entry: no such warning in the host's log.",
        corpus=("069-azure-dv5-evmcs-field",),
    ),
    Bug(
        id="bug-hyperv-runner-no-number",
        title="On CI runners under Hyper-V an entry fails now and then, without a number",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=(0,), hypervisor=_HYPER_V),
        what=(
            "GitHub's runners are VMs on Azure. Since autumn 2025 entries of nested guests fail there at random with"
            " VMfailInvalid: the CPU says only that there is no current VMCS, which is the outer hypervisor's doing."
        ),
        fix=Fix(vmm="Try again, or run the job on real hardware."),
        references=("https://github.com/hermit-os/uhyve/issues/1150",),
        example="KVM_EXIT_FAIL_ENTRY, hardware_entry_failure_reason 0, on a GitHub runner",
        confused_with="outer-hypervisor-entry: the same number where nothing shows what runs around the host.",
        corpus=("074-uhyve-fail-entry-github-runner",),
    ),
    Bug(
        id="bug-nested-vmresume-no-number",
        title="A running 64-bit guest could not be entered again, without a number",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=(0,), mode=("long64",), reset=("ran",)),
        what=(
            "VMfailInvalid in the middle of a run: the VMCS that KVM had loaded a moment ago was gone. On real hardware"
            " nothing does that; CI jobs that run KVM in VMs see it now and then."
        ),
        fix=Fix(
            host="Check whether this host is a VM; if not, look for another hypervisor's modules (vboxdrv, vmmon)."
        ),
        references=("https://github.com/coconut-svsm/svsm/issues/1081",),
        example="KVM: entry failed, hardware error 0x0 in 64-bit mode during a test of virtio",
        confused_with="other-hypervisor: VirtualBox or VMware on the same host take VMX away.",
        also=("bug-hyperv-runner-no-number",),
    ),
    Bug(
        id="bug-tcg-svm-return-address",
        title="QEMU's emulated SVM restarted a block of code, and the guest pushed twice",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("internal-error", 1, mode=("prot32",), linear=((0x4000_0000, 0x4000_0FFF),), bytes=(b"\x00\x00",)),
        what=(
            "KVM ran in a VM of QEMU without KVM (TCG). On an exit in the middle of a translated block TCG stored the"
            " block's start as the guest's EIP; the push there ran twice, and the next RET took a wrong address."
        ),
        fix=Fix(host="Update the outer QEMU, or give it hardware virtualization."),
        references=("https://bugs.launchpad.net/qemu/+bug/1653419",),
        example="suberror 1 at zeros, EIP=40000000, in SeaBIOS's 32-bit code",
        confused_with="fetch-non-ram: a wild jump of the guest itself.",
        corpus=("062-tcg-svm-eip-bug-l0",),
    ),
    Bug(
        id="bug-esxi-nested-amd-3.13",
        title="kvm_amd of the 3.13 era inside ESXi sends guests to the BIOS's dummy vector",
        origin="host-kernel",
        family="outer-hypervisor",
        shape=Shape("internal-error", 1, mode=("prot32",), linear=((0xF000_FF53, 0xF000_FF53),), bytes=(b"\x00\x00",)),
        versions=Affected(fixed="3.19"),
        what=(
            "Guests on Ubuntu 14.04 in an ESXi VM ended at f000ff53: the BIOS's dummy interrupt vector f000:ff53, taken"
            " for a flat address. With a 3.19 kernel in the VM they ran."
        ),
        fix=Fix(host="Use a kernel of 3.19 or later in the VM that runs KVM."),
        references=("ubuntuforums.org, 2015-07-04: KVM internal error. Suberror: 1 emulation failure",),
        example="suberror 1 at zeros, EIP=f000ff53, on 3.13",
        confused_with="fetch-non-ram: a far pointer used as a flat one, by the guest's own mistake.",
        corpus=("018-ubuntu-1404-amd-nested-zeros",),
    ),
    Bug(
        id="bug-nested-la57-host-state",
        nursery=True,
        title="A KVM with five-level paging runs in a KVM that does not allow CR4.LA57 for it",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("entry-failure", hardware_error=(8,), hypervisor=_KVM),
        what=(
            "VM entry checks the host's CR4 against a mask. The outer KVM offered five-level paging but left its bit"
            " out of that mask, so every entry of the inner KVM has an invalid host state."
        ),
        fix=Fix(
            vmm="Hide la57 from the VM that runs KVM.",
            host="Boot the inner kernel with no5lvl; update the outer host's kernel.",
        ),
        references=("https://lore.kernel.org/kvm/20191119083359.15319-1-chenyi.qiang@intel.com/",),
        example="hardware error 0x8 at the reset vector, in a VM with la57",
        confused_with="vm-instruction-error: other host state that the CPU does not take.",
    ),
    Bug(
        id="bug-outer-notify-exit",
        title="The hypervisor around this host hands it NOTIFY exits, which it never asked for",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("internal-error", 4, reason=(75,)),
        hints=Shape(vendor="vmx"),
        versions=Affected(fixed="6.0"),
        what=(
            "NOTIFY tells a hypervisor that a guest blocks events for too long. KVM knows the exit since 6.0 and gets"
            " it only if it asks; an older KVM, or one that did not ask, has it from an outer hypervisor that passes"
            " its own on."
        ),
        fix=Fix(host="Update this host's kernel to 6.0; turn notify exits off outside (QEMU: notify-vmexit=disable)."),
        references=('kvm list, review of "KVM: VMX: Enable Notify VM exit" (in v6.0)',),
        example="suberror 4, 0x4b, on a 5.15 kernel in a VM on Sapphire Rapids",
        confused_with="unhandled-exit: other reasons without a handler.",
    ),
    Bug(
        id="bug-outer-bus-lock-exit",
        title="The hypervisor around this host hands it BUS_LOCK exits, which it does not know",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape("internal-error", 4, reason=(74,)),
        hints=Shape(vendor="vmx"),
        versions=Affected(fixed="5.12"),
        what=(
            "BUS_LOCK tells a hypervisor of split locks. KVM has a handler since 5.12 and asks for the exit only if the"
            " VMM wants it; an older KVM can only have it from an outer hypervisor."
        ),
        fix=Fix(host="Update this host's kernel to 5.12; turn bus-lock exits off in the outer hypervisor."),
        references=("include/uapi/linux/kvm.h: KVM_EXIT_X86_BUS_LOCK (in v5.12)",),
        example="suberror 4, 0x4a, on 5.4",
        confused_with="unhandled-exit: other reasons without a handler.",
    ),
    Bug(
        id="bug-nested-svm-without-nrips",
        title="The outer hypervisor hides NRIPS, so that KVM must decode instructions only to skip them",
        origin="outer-hypervisor",
        family="outer-hypervisor",
        shape=Shape(
            "internal-error", 1, vendor="svm", reason=(0x6F, 0x72, 0x78, 0x7C, 0x80, 0x81, 0x89, 0x8A, 0x8B, 0x8D)
        ),
        hints=Shape(layout=("final", "final-no-bytes")),
        what=(
            "AMD CPUs report where the next instruction starts. Without that, KVM decodes each intercepted CPUID, HLT"
            " or RDMSR to find its length, and where the fetch fails the VM stops, in user mode as well."
        ),
        fix=Fix(
            vmm="Give the VM that runs KVM the CPU features nrip-save and decodeassists (QEMU: -cpu host).",
            host="Check for nrip_save in /proc/cpuinfo.",
        ),
        references=(
            "arch/x86/kvm/svm/svm.c: __svm_skip_emulated_instruction",
            "APM vol. 2, 15.7.1: state saved on exit",
        ),
        example="suberror 1, reason 0x72 (CPUID)",
        confused_with="emulator-gives-up: instructions that KVM was asked to carry out, not to skip.",
        at_most="possible",
        also=("bug-l1-vmcb-not-ram",),
    ),
)
