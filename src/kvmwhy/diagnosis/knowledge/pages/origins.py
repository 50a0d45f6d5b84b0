"""Whose doing it can be: one page for each origin."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.pages.page import Page

ORIGINS: Final = (
    Page(
        id="guest-code",
        kind="origin",
        title="The guest's own kernel or program",
        phrase="the guest's own code",
        what=(
            "The guest did something that cannot work: it jumped to an address without RAM, used SIMD instructions on device"
            " memory, broke its page tables, its IDT or its stack, or switched modes in a wrong order."
        ),
        recognise=(
            "The guest had been running for a while, its registers are its own, and RIP lies in its kernel or program. The same"
            " guest fails the same way on other hosts and under TCG."
        ),
        fix=Fix(
            guest="Debug the guest at the RIP that is shown: QEMU's -s -S with gdb, or `kvmwhy explain` with more of its log."
        ),
        aliases=("guest",),
    ),
    Page(
        id="guest-firmware",
        kind="origin",
        title="The guest's firmware or boot loader",
        phrase="the guest's firmware or boot loader",
        what="SeaBIOS, OVMF, an option ROM, SMM code or a boot loader that somebody else supplies did it.",
        recognise=(
            "RIP lies below 1 MiB in real mode, in the flash below 4 GiB, or the vCPU is in SMM; the guest's operating system has"
            " not started yet."
        ),
        fix=Fix(
            vmm="Try another version of the firmware, and leave out option ROMs (-device …,romfile=).",
            host="Update the firmware package of the VMM.",
        ),
        aliases=("firmware",),
    ),
    Page(
        id="vm-configuration",
        kind="origin",
        title="How the VM was set up",
        phrase="how the VM was set up",
        what=(
            "The memory size, the CPU model, the machine type, the devices or the options of the VM do not fit the guest, or do"
            " not fit this host. Migration between unlike hosts belongs here."
        ),
        recognise="The same guest works with other options; the command line shows an unusual value.",
        fix=Fix(vmm="Start with the defaults of the VMM, then add options one by one."),
        aliases=("configuration",),
    ),
    Page(
        id="vmm",
        kind="origin",
        title="The VMM",
        phrase="the VMM",
        what=(
            "The program that runs the vCPU did it: it loaded a wrong state, forgot a memory region, does not know an exit, or"
            " has a bug in a device."
        ),
        recognise=(
            "The vCPU has not run yet, or its state is a mixture that no guest makes; the failure comes right after a reset,"
            " a migration or a snapshot; another VMM runs the same guest."
        ),
        fix=Fix(vmm="Compare what the VMM loads with the reset state of the manual.", host="Update the VMM."),
    ),
    Page(
        id="vmm-race",
        kind="origin",
        title="The VMM changed memory or state while vCPUs ran",
        phrase="the VMM's change of memory slots while vCPUs ran",
        what=(
            "To change a memory slot the VMM deletes it and adds it again. For a moment the guest has no RAM there. A vCPU that"
            " touches it in that moment fails, although everything is in place afterwards."
        ),
        recognise=(
            "RAM that the VMM can read, and KVM could not; several vCPUs fail at one moment; it happens rarely and with load,"
            " after memory hot-plug, balloon, VGA mode changes or dirty logging."
        ),
        fix=Fix(vmm="Pause the vCPUs while slots change, or update: QEMU does so since 8.0.", host="Update QEMU."),
    ),
    Page(
        id="host-kernel",
        kind="origin",
        title="The host's kernel",
        phrase="the host's kernel",
        what="A bug or a missing ability of KVM, of memory management or of a driver in the host's kernel.",
        recognise=(
            "A WARNING or an oops of the host's kernel just before; a version that is known to have the bug; the same VM works"
            " with another kernel."
        ),
        fix=Fix(
            host="Update the kernel. If the newest has it too, report it to kvm@vger.kernel.org with `kvmwhy reproduce --export report`."
        ),
        aliases=("kernel",),
    ),
    Page(
        id="host-setup",
        kind="origin",
        title="The host's configuration or resources",
        phrase="the host's configuration or resources",
        what=(
            "Another hypervisor holds the CPU's virtualization, a module parameter or a BIOS setting is wrong, rights are"
            " missing, memory or /dev/shm is full, or a physical device is in a bad state."
        ),
        recognise="errno EBUSY, EACCES, ENOMEM, ENODEV; vboxdrv or vmmon are loaded; EFAULT with hugetlb, shm or VFIO.",
        fix=Fix(host="Run `kvmwhy doctor`. It checks these conditions and says how to change each."),
        aliases=("setup",),
    ),
    Page(
        id="outer-hypervisor",
        kind="origin",
        title="The hypervisor below: this host is itself a virtual machine",
        phrase="the hypervisor below this host",
        what=(
            "KVM runs nested here. What it uses of the CPU is made by the hypervisor below, which offers a part of it, has it"
            " switched off, or has a bug. Cloud instances, CI runners, VMware, Hyper-V and WSL 2 are the usual places."
        ),
        recognise=(
            "How to see that a host is itself a VM: `systemd-detect-virt`; the flag hypervisor in /proc/cpuinfo; `lscpu` shows a"
            " hypervisor vendor; the kernel log has `Hypervisor detected:`; DMI names VMware, QEMU, Microsoft, Amazon EC2 or"
            " Google. `kvmwhy doctor` looks at all of them."
        ),
        fix=Fix(
            host=(
                "Try the same VM on real hardware. If it works there, update the hypervisor below or its CPU settings for nested"
                " virtualization, or use TCG."
            ),
        ),
        aliases=("nested", "outer", "is my host a vm"),
    ),
    Page(
        id="cpu",
        kind="origin",
        title="The CPU",
        phrase="the CPU",
        what="An erratum, old microcode, a defective CPU, or a CPU that is too old for what was asked.",
        recognise="It happens on one CPU model only, or on one machine of many; the erratum is published.",
        fix=Fix(host="Update the microcode and the firmware of the host. Move the VM to another machine to compare."),
    ),
    Page(
        id="confidential-stack",
        kind="origin",
        title="The confidential computing stack",
        phrase="the confidential computing stack (SEV, SNP, TDX, pKVM)",
        what=(
            "The guest's state is encrypted. Its firmware, the security processor, the TDX module or the guest itself ended it, or"
            " an ability is missing there."
        ),
        recognise="sev-guest, sev-snp-guest or tdx-guest objects; SEV or SEAMCALL messages; registers that read as zero.",
        fix=Fix(
            host="Check the versions of the SEV firmware or TDX module, of the kernel and of OVMF against each other."
        ),
        aliases=("sev", "snp", "tdx"),
    ),
    Page(
        id="host-dying",
        kind="origin",
        title="The host was failing",
        phrase="the host itself was failing",
        what="The host was crashing, resetting, or its memory or CPU was defective; the guest's failure is a consequence.",
        recognise="Many vCPUs or VMs fail within a moment; machine checks, ECC errors, a panic in the host's log.",
        fix=Fix(host="Look at the host's log, its BMC and its memory errors first."),
    ),
    Page(
        id="none",
        kind="origin",
        title="Nothing failed",
        phrase="nobody: nothing failed",
        what="A healthy trace, a dump that was made on purpose, an orderly shutdown or reboot, or a test that wants this result.",
        recognise="The VM goes on, or it was meant to end.",
    ),
)
