"""Bugs of the host's KVM: the guest is innocent, and another kernel ends it."""

from __future__ import annotations

from typing import Final

from kvmwhy.abi.x86.svm import VMEXIT_INVALID
from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.kernel_version import Affected
from kvmwhy.diagnosis.knowledge.predicate import Shape

_LORE = "https://lore.kernel.org/all/"
_INVALID_STATE = (0x8000_0021,)
_CONTROLS = (7,)
_ALL = (1 << 64) - 1
_CR4_PCIDE, _CR4_CET = 1 << 17, 1 << 23
_EFER_LME, _EFER_LMSLE = 1 << 8, 1 << 13
_TF = 1 << 8
_UPDATE = "Update the host's kernel"
_ELSEWHERE = "Something else of the same shape: the conditions are necessary, not sufficient; the version decides."

BUGS: Final = (
    Bug(
        id="bug-smi-in-sti-shadow",
        same="smm",
        title="KVM took STI's interrupt shadow into SMM, a state that VM entry refuses",
        origin="host-kernel",
        family="smm",
        shape=Shape("entry-failure", hardware_error=_INVALID_STATE, smm=True, rip=(0x8000,)),
        hints=Shape(control=(("guest_interruptibility|interruptibility", 1, 1),)),
        versions=Affected(fixed="6.2"),
        what=(
            "An SMI that arrives right after STI must wait or take the interrupt shadow off: in SMM interrupts are off,"
            " and VM entry refuses blocking by STI without RFLAGS.IF. KVM kept it. Windows 11 and Server 2022 guests"
            " with Secure Boot meet it most, because their firmware raises SMIs; Proxmox hosts on 5.15 reported it in"
            " numbers."
        ),
        fix=Fix(
            vmm="Turn SMM off where the firmware allows it (QEMU: -machine smm=off, OVMF without SMM_REQUIRE).",
            host=f"{_UPDATE} to 6.2 or one with the fix; RHEL 8.8 has it since RHSA-2023:4815.",
        ),
        references=(
            'fb28875fd7da ("KVM: x86: smm: preserve interrupt shadow in SMRAM") (in v6.2)',
            f"{_LORE}20221025124741.228045-24-mlevitsk@redhat.com/",
        ),
        example="hardware error 0x80000021, EIP=00008000, SMM=1; VMCS dump: Interruptibility = 00000009, IF=0",
        confused_with=(
            "Other SMM failures of the same shape (cause smm). Disabling tdp_mmu, a remedy often named for it, does not"
            " touch this bug."
        ),
    ),
    Bug(
        id="bug-shadow-pae-root-me-mask",
        title="KVM put every possible encryption bit into the roots of its 32-bit shadow page tables",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape(
            "entry-failure", hardware_error=_INVALID_STATE, mode=("real16", "prot16", "prot32"), events=("oops",)
        ),
        versions=Affected(since="5.18", fixed="5.19"),
        at_most="possible",
        what=(
            "The PDPTEs that KVM loaded had reserved bits set, on hosts with memory encryption and ept=0; the first"
            " entry with paging failed, and freeing the root oopsed. It lived in development kernels between 5.18 and"
            " 5.19."
        ),
        fix=Fix(host=f"{_UPDATE} to a released 5.19 or later; do not load kvm_intel with ept=0."),
        references=(
            'e54f1ff244ac ("KVM: x86/mmu: Add shadow_me_value and repurpose shadow_me_mask")',
            "https://lore.kernel.org/kvm/20220607074034.7109-1-yuan.yao@intel.com/",
        ),
        example="hardware error 0x80000021 at f000:e05b beside an oops in mmu_free_root_page, ept=0",
        confused_with="invalid-guest-state: there no oops stands beside it.",
        corpus=("009-pae-root-shadow-me-mask",),
    ),
    Bug(
        id="bug-vmx-exit-control-typo",
        title="KVM cleared the wrong control word on CPUs with the PERF_GLOBAL_CTRL erratum",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape(
            "entry-failure",
            hardware_error=_CONTROLS,
            reset=("reset",),
            signature=(0x106A0, 0x106E0, 0x20650, 0x206C0, 0x206E0),
        ),
        at_most="possible",
        what=(
            "On Nehalem and Westmere, whose loading of PERF_GLOBAL_CTRL is broken, KVM must drop two control bits. A"
            " typo dropped the entry bit from the exit controls, and VMLAUNCH refused the mixture. The fix was posted"
            " in February 2019, while 5.0 was in the making."
        ),
        fix=Fix(host=f"{_UPDATE}, or go back to 4.20."),
        references=(
            'c73da3fcab43 ("KVM: VMX: Properly handle dynamic VM Entry/Exit controls")',
            'kvm list, February 2019: "KVM: VMX: Fix vm entry failure caused by invalid vmexit controls"',
        ),
        example="hardware error 0x7 at the reset vector, EDX=000206c2",
        confused_with="outer-hypervisor-entry: the same number where the host is itself a VM.",
        corpus=("015-vmx-exit-controls-typo",),
    ),
    Bug(
        id="bug-sev-es-debugctl",
        title="KVM switched LBR virtualization off for an SEV-ES guest, which must always have it",
        origin="host-kernel",
        family="confidential-guest",
        shape=Shape("entry-failure", hardware_error=VMEXIT_INVALID, registers=(("rcx", _ALL, 0x1D9),)),
        versions=Affected(since="5.11", fixed="6.10"),
        what=(
            "A write of the guest to IA32_DEBUGCTL (MSR 0x1d9) was intercepted, and KVM turned LBR virtualization off"
            " to save time. An SEV-ES guest may not run without it: the next VMRUN fails."
        ),
        fix=Fix(
            guest="Do not write IA32_DEBUGCTL: no LBR, no branch stepping.",
            host=f"{_UPDATE} to 6.10, or load kvm_amd with lbrv=0.",
        ),
        references=(
            'b7e4be0a224f ("KVM: SEV-ES: Delegate LBR virtualization to the processor")',
            "https://bugzilla.kernel.org/attachment.cgi?id=304653",
        ),
        example="hardware error 0xffffffff with ECX=000001d9 after wrmsr 0x1d9",
        confused_with="sev-es-entry: other reasons for which VMRUN refuses an SEV-ES guest.",
        corpus=("023-sev-es-lbrv-debugctl",),
    ),
    Bug(
        id="bug-sev-es-ghcb-einval",
        title="KVM killed an SEV-ES guest for an invalid GHCB, with EINVAL",
        origin="host-kernel",
        family="confidential-guest",
        shape=Shape("run-error", errno=("EINVAL",), registers=(("rip", _ALL, 0), ("efer", _EFER_LME, _EFER_LME))),
        versions=Affected(since="5.11", fixed="5.16"),
        what=(
            "A VMGEXIT whose GHCB did not pass KVM's checks made KVM_RUN fail with EINVAL, so that the whole guest died"
            " for a mistake in its own request. Later kernels hand the guest an error instead. The registers shown are"
            " empty but for the control registers."
        ),
        fix=Fix(
            guest="Use a guest kernel and firmware that speak the GHCB protocol version of this host.",
            host=f"{_UPDATE} to 5.16; hosts with SNP patches need kernel, OVMF and QEMU of one release of that set.",
        ),
        references=(
            'ad5b353240c8 ("KVM: SVM: Do not terminate SEV-ES guests on GHCB validation failure")',
            f"{_LORE}b57280b5562893e2616257ac9c2d4525a9aeeb42.1638471124.git.thomas.lendacky@amd.com/",
            "https://github.com/AMDESE/AMDSEV/issues/100",
        ),
        example="error: kvm run failed Invalid argument, EIP=00000000, EFER=0000000000000900",
        confused_with="Other EINVALs of KVM_RUN: there the registers are those of a running guest.",
    ),
    Bug(
        id="bug-snp-vmsa-gone",
        title="An SNP guest took a vCPU's save area away while KVM was entering it",
        origin="host-kernel",
        family="confidential-guest",
        shape=Shape("entry-failure", hardware_error=VMEXIT_INVALID, reset=("zero",)),
        versions=Affected(since="6.11", fixed="6.16"),
        needs_version=True,
        what=(
            "A guest that destroys a vCPU takes the VMSA attribute from its page. KVM could still be about to enter"
            " that vCPU, or a VMM could set it running again: VMRUN then finds no VMSA."
        ),
        fix=Fix(
            guest="Let application processors halt before they are destroyed.",
            host=f"{_UPDATE} to 6.16; 6.15 has the check for a missing VMSA, but not the race.",
        ),
        references=(
            '309d28576f0a ("KVM: SVM: Fix SNP AP destroy race with VMRUN")',
            '72d12715edcd ("KVM: SVM: Refuse to attempt VRMUN if an SEV-ES+ guest has an invalid VMSA")',
        ),
        example="hardware error 0xffffffff, all registers zero, on 6.12, while an SNP guest takes a CPU offline",
        confused_with="sev-es-entry: without a version there is no telling which of its reasons it was.",
    ),
    Bug(
        id="bug-svm-efer-lmsle",
        title="KVM let the guest set EFER.LMSLE on a CPU that no longer has it",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("entry-failure", hardware_error=VMEXIT_INVALID, registers=(("efer", _EFER_LMSLE, _EFER_LMSLE),)),
        versions=Affected(fixed="7.0"),
        what=(
            "AMD dropped long mode's segment limits with Zen 3, but KVM still let the guest set their bit in EFER if"
            " nested virtualization was on. The next VMRUN refuses it."
        ),
        fix=Fix(
            guest="Do not set EFER bit 13.",
            host=f"{_UPDATE} to 7.0, or load kvm_amd with nested=0.",
        ),
        references=(
            'c53c632592a4 ("KVM: SVM: Disallow EFER.LMSLE when not supported by hardware")',
            f"{_LORE}20251001001529.1119031-3-jmattson@google.com/",
        ),
        example="hardware error 0xffffffff with EFER=0000000000003d01 on Zen 3",
        confused_with="Other guest states that VMRUN refuses: EFER tells.",
    ),
    Bug(
        id="bug-single-step-in-mov-ss-shadow",
        title="KVM single-stepped into an interrupt shadow without the pending #DB that VM entry wants",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("entry-failure", hardware_error=_INVALID_STATE, registers=(("rflags", _TF, _TF),)),
        versions=Affected(fixed="5.17"),
        what=(
            "With RFLAGS.TF set and events blocked by STI or MOV SS, VM entry demands a pending single-step trap (BS)."
            " KVM intercepts #DB and came back without it."
        ),
        fix=Fix(
            guest="Do not single-step over STI, MOV SS or POP SS.",
            host=f"{_UPDATE} to 5.17. KVM's own emulation of MOV SS (forced by a test prefix) may still do this.",
        ),
        references=(
            '"KVM: VMX: Set vmcs.PENDING_DBG.BS on #DB in STI/MOVSS blocking shadow" (in v5.17)',
            f"{_LORE}20220120000624.655815-1-seanjc@google.com/",
        ),
        example="hardware error 0x80000021 with TF set in EFLAGS, while a debugger in the guest steps over MOV SS",
        confused_with="invalid-guest-state: with TF clear it is another rule of VM entry.",
    ),
    Bug(
        id="bug-real-mode-error-code",
        title="KVM injected an exception with an error code into real mode, which has none",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape(
            "entry-failure",
            hardware_error=(*_CONTROLS, *VMEXIT_INVALID),
            mode=("real16",),
            control=(("vm_entry_interruption_info|vm_entry_intr_info|event_inj", 0x8000_0800, 0x8000_0800),),
        ),
        versions=Affected(fixed="6.3"),
        what=(
            "Exceptions carry an error code in protected mode only. KVM cleared the code itself instead of the flag"
            " that says there is one, and VM entry refuses the flag while CR0.PE is clear."
        ),
        fix=Fix(host=f"{_UPDATE} to 6.3 or a stable kernel from April 2023 on."),
        references=(
            '6c41468c7c12 ("KVM: x86: Clear "has_error_code", not "error_code", for RM exception injection") (in v6.3)',
        ),
        example="hardware error 0x7 in real mode, VMCS dump: VMEntry: intr_info=80000b0d",
        confused_with="bug-vmware-int-in-real-mode: there nothing with an error code was injected.",
    ),
    Bug(
        id="bug-recovery-thread-enomem",
        title="KVM could not start its huge-page thread at the first KVM_RUN, and never tried again",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("run-error", errno=("ENOMEM",), reset=("reset",), mode=("real16",)),
        versions=Affected(since="6.12", fixed="6.14"),  # 931656b9e2ff, in 6.14-rc and the stable series 6.12 and 6.13
        what=(
            "Since 931656b9e2ff the first KVM_RUN of a VM starts a kernel thread that takes huge pages back. A signal"
            " that arrives at that moment makes the start fail; KVM reported it as ENOMEM and remembered the failure"
            " for good."
        ),
        fix=Fix(
            vmm="Start the VM again; block signals around the first KVM_RUN.",
            host=f"{_UPDATE} to 6.14, or to a 6.12 or 6.13 that has 916b7f42b3b3.",
        ),
        references=(
            '931656b9e2ff ("kvm: defer huge page recovery vhost task to later") (in v6.14)',
            '916b7f42b3b3 ("kvm: retry nx_huge_page_recovery_thread creation") (in v6.14)',
            f"{_LORE}20250226024304.1807955-1-kbusch@meta.com/",
            "https://github.com/dosemu2/dosemu2/issues/2471",
        ),
        example="error: kvm run failed Cannot allocate memory, with the vCPU at its reset vector",
        confused_with="host-memory-fault: a host that is really out of memory says so in its kernel log.",
    ),
    Bug(
        id="bug-vfio-huge-fault",
        title="Two faults on a passed-through BAR raced in the host, and one was taken for out of memory",
        origin="host-kernel",
        family="host-memory",
        shape=Shape("run-error", errno=("EFAULT",), events=("vfio-bar-fault",)),
        versions=Affected(since="6.12", fixed="6.15", stable=("6.14.7",)),
        what=(
            "vfio-pci maps BARs with huge pages on demand. It did not align the fault to the size it tried, and now and"
            " then the fault ended in VM_FAULT_OOM. KVM then has no page, and KVM_RUN fails."
        ),
        fix=Fix(
            vmm="Give the guest no more physical address bits than the IOMMU has (QEMU: phys-bits).",
            host=f"{_UPDATE} to 6.15 or 6.14.7.",
        ),
        references=(
            'c1d9dac0db16 ("vfio/pci: Align huge faults to order") (in v6.15)',
            "https://bugzilla.kernel.org/show_bug.cgi?id=220057",
        ),
        example="error: kvm run failed Bad address beside vfio_pci_mmap_huge_fault(,order = 0) BAR 1 … 0x1",
        confused_with="host-memory-fault: what backs the guest's RAM is gone.",
    ),
    Bug(
        id="bug-fsdax-page-count",
        nursery=True,
        title="KVM dropped the reference of the wrong page of a DAX file",
        origin="host-kernel",
        family="host-memory",
        shape=Shape("run-error", errno=("EFAULT",), events=("zone-device-page", "memory-poisoned")),
        versions=Affected(since="5.16", fixed="6.13"),
        what=(
            "KVM took a page of a file on persistent memory, made a huge mapping of it and released the first page of"
            " that mapping instead. In a DAX file those are pages of their own: soon one has no reference left."
        ),
        fix=Fix(
            vmm="Back the guest's RAM by devdax, hugetlbfs or anonymous memory instead of a file on a DAX file system.",
            host=f"{_UPDATE} to 6.13.",
        ),
        references=(
            "https://lore.kernel.org/all/20241130132702.1974626-1-kniv@yandex-team.ru/",
            '8dd861cc07e2 ("KVM: x86/mmu: Put refcounted pages instead of blindly releasing pfns") (in v6.13)',
        ),
        example="error: kvm run failed Bad address with guest RAM in a file on XFS with DAX",
        confused_with="host-memory-fault: a file that is too small or was truncated.",
    ),
    Bug(
        id="bug-gpu-pages-efault",
        weight=0.5,
        title="Host kernels before 6.13 cannot map a graphics driver's pages into a guest",
        origin="host-kernel",
        family="host-memory",
        shape=Shape("run-error", errno=("EFAULT",), mode=("long64",), cpl=3),
        versions=Affected(fixed="6.13"),
        at_most="possible",
        what=(
            "virtio-gpu blobs put pages of the host's graphics driver into the guest. Such pages have no reference"
            " count, and KVM refused them until it was taught to do without. The guest's instruction only happened to"
            " touch one."
        ),
        fix=Fix(
            vmm="Without such a kernel use no blob resources or native contexts (QEMU: virtio-gpu with blob=off).",
            host=f"{_UPDATE} to 6.13.",
        ),
        references=(
            '8b15c3764c05 ("KVM: Don\'t grab reference on VM_MIXEDMAP pfns that have a "struct page"") (in v6.13)',
            f"{_LORE}20240726235234.228822-85-seanjc@google.com/",
        ),
        example="error: kvm run failed Bad address in a guest's program (CPL=3), with venus or drm_native_context",
        confused_with="host-memory-fault: guests without a GPU have no such pages.",
        corpus=("088-virtio-gpu-blob-efault-x86",),
    ),
    Bug(
        id="bug-ksm-bad-page-state",
        title="The host's page merging (KSM) broke pages of the guest",
        origin="host-kernel",
        family="host-memory",
        shape=Shape("run-error", errno=("EFAULT",), events=("page-state-bad",)),
        at_most="possible",
        what=(
            "In linux-next of late August 2024 a guest that stood still at start, so that KSM merged its pages, failed"
            " as soon as it ran, and the host reported a bad page state in ksmd. Without CONFIG_KSM it did not happen."
        ),
        fix=Fix(host="Stop KSM (echo 2 > /sys/kernel/mm/ksm/run) and use a released kernel."),
        references=("https://lore.kernel.org/linux-next/83847d6b-9533-4a5e-a2e1-763021a32b9b@amd.com/",),
        example="error: kvm run failed Bad address in OVMF beside BUG: Bad page state in process ksmd",
        confused_with="A memory error of the host, which its kernel log would name as one.",
        corpus=("091-linux-next-ksm-efault-ovmf",),
    ),
    Bug(
        id="bug-mmio-walk-einval",
        title="KVM walked its page tables from the wrong level and saw reserved bits that are none",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("run-error", errno=("EINVAL",), events=("spte-reserved-bits",)),
        versions=Affected(since="5.10", fixed="5.11"),
        what=(
            "Looking up an emulated device's page, KVM took the level of the root from the vCPU instead of the walk."
            " With shadow paging on a 32-bit host that is wrong: it found reserved bits and gave up with EINVAL."
        ),
        fix=Fix(host=f"{_UPDATE} to 5.11 or a later 5.10.y; use a 64-bit host kernel, and EPT."),
        references=(
            '39b4d43e6003 ("KVM: x86/mmu: Get root level from walkers when retrieving MMIO SPTE") (in v5.11)',
            "https://bugzilla.kernel.org/show_bug.cgi?id=210695",
        ),
        example="error: kvm run failed Invalid argument beside get_mmio_spte: detect reserved bits on spte",
        confused_with="A newer kernel with the same message: then the page tables are really damaged.",
    ),
    Bug(
        id="bug-nested-smi-eio",
        title="An SMI came while KVM had a nested entry pending, and KVM gave the VM up",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("run-error", errno=("EIO",), mode=("real16",), reset=("ran",)),
        at_most="possible",
        what=(
            "A hypervisor in the guest was starting Windows when an SMI arrived between its VMRESUME and the real"
            " entry. KVM met a state that it holds to be impossible (KVM_BUG_ON nested_run_pending) and marked the VM"
            " dead."
        ),
        fix=Fix(
            guest="Use firmware without SMM under the nested hypervisor.",
            vmm="Turn SMM off (QEMU: -machine smm=off).",
            host="Look for a warning from kvm_intel in the host's log; update the kernel.",
        ),
        references=("https://bugzilla.kernel.org/show_bug.cgi?id=216046",),
        example="error: kvm run failed Input/output error in the video BIOS, with XMHF as the guest's hypervisor",
        confused_with="Any other KVM_BUG_ON: the host's log has the line that fired.",
    ),
    Bug(
        id="bug-seamcall-exit",
        title="The guest executed SEAMCALL or TDCALL, and KVM had no handler for the exit",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("internal-error", 4, reason=(76, 77)),
        hints=Shape(vendor="vmx"),
        versions=Affected(fixed="6.18", stable=("6.17.9",)),
        what=(
            "Both instructions exit whenever VMX is on, with no way to turn that off. They should have raised #UD in a"
            " guest that is no trust domain; KVM stopped the VM instead. Only the guest's kernel can do it, not a"
            " program."
        ),
        fix=Fix(
            guest="Do not use the instructions outside a trust domain.",
            host=f"{_UPDATE} to 6.18 or 6.17.9.",
        ),
        references=(
            '9d7dfb95da2c ("KVM: VMX: Inject #UD if guest tries to execute SEAMCALL or TDCALL") (in v6.18)',
            f"{_LORE}20251014231042.1399849-1-seanjc@google.com/",
        ),
        example="suberror 4, 0x4c, 0x3: SEAMCALL on CPU 3",
        confused_with="unhandled-exit: other reasons without a handler.",
    ),
    Bug(
        id="bug-msr-immediate-exit",
        title="The guest used RDMSR or WRMSRNS with an immediate, and KVM had no handler for the exit",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("internal-error", 4, reason=(84, 85)),
        hints=Shape(vendor="vmx"),
        versions=Affected(fixed="6.18", stable=("6.17.9",)),
        what=(
            "The CPU has the new forms of RDMSR and WRMSRNS, which exit with reasons of their own. KVM learned them in"
            " 6.18; before, a guest that found the feature by itself stopped the VM."
        ),
        fix=Fix(vmm="Hide the feature from the guest's CPUID.", host=f"{_UPDATE} to 6.18 or 6.17.9."),
        references=('"KVM: x86: Add support for RDMSR/WRMSRNS w/ immediate on Intel"',),
        example="suberror 4, 0x54, 0x0",
        confused_with="unhandled-exit: other reasons without a handler.",
    ),
    Bug(
        id="bug-pml-full-in-l2",
        title="The log of dirty pages filled up while a nested guest ran, and KVM has no handler for that",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape("internal-error", 4, reason=(62,)),
        hints=Shape(vendor="vmx"),
        what=(
            "Page-modification logging belongs to the first level of guests. An exit for a full log in the middle of a"
            " nested guest means that it was left on there; KVM does not expect it and stops the VM."
        ),
        fix=Fix(
            vmm="Do not migrate the VM (or watch its dirty pages) while nested guests run.",
            host=f"{_UPDATE}, or load kvm_intel with pml=0.",
        ),
        references=("arch/x86/kvm/vmx/vmx.c: __vmx_handle_exit, EXIT_REASON_PML_FULL in guest mode",),
        example="suberror 4, 0x3e, 0x7 during a migration of a VM with nested guests",
        confused_with="unhandled-exit: other reasons without a handler.",
    ),
    Bug(
        id="bug-rsm-pcid",
        title="KVM could not restore CR4.PCIDE and CR3 together when leaving SMM",
        origin="host-kernel",
        family="smm",
        shape=Shape("internal-error", 1, mnemonic=("rsm",), smm=True),
        versions=Affected(fixed="4.15", stable=("4.4.112",)),
        at_most="possible",
        what=(
            "CR4.PCIDE may be set only while the low bits of CR3 are zero, and those bits may be used only once it is"
            " set. RSM loaded them in an order that a guest with a non-zero PCID cannot pass, and the emulation failed."
        ),
        fix=Fix(
            guest="Boot the guest with nopcid.",
            vmm="Hide PCID from the guest, or turn SMM off.",
            host=f"{_UPDATE} to 4.15.",
        ),
        references=('"kvm: x86: fix RSM when PCID is non-zero", in the change logs of 4.4.y and of SLES',),
        example="suberror 1 at 0f aa with SMM=1, on 4.9, with a Linux guest that uses PCID",
        confused_with=(
            "smm: RSM fails as well if the save area is damaged. From 5.14 on it ends in a triple fault instead."
        ),
    ),
    Bug(
        id="bug-rsm-triple-fault",
        title="RSM could not restore the saved state, which KVM ends in a triple fault since 5.14",
        origin="host-kernel",
        family="smm",
        shape=Shape("shutdown", mnemonic=("rsm",)),
        versions=Affected(since="5.14"),
        at_most="possible",
        what=(
            "Up to 5.13 a failed RSM was an internal error that named the instruction. Since then KVM does as CPUs do"
            " and shuts down, from 6.2 on also if SMRAM cannot be read: the save area was overwritten, or SMBASE is"
            " wrong."
        ),
        fix=Fix(
            vmm="Turn SMM off (QEMU: -machine smm=off); use firmware and QEMU that belong together.",
            guest="Check that nothing writes into SMRAM once it is closed.",
        ),
        references=("arch/x86/kvm/smm.c: emulator_leave_smm", "SDM vol. 3C, 32.3: leaving SMM"),
        example="a triple fault at 0f aa with SMM=1, on 6.1",
        confused_with="A triple fault of the guest itself: RSM at RIP tells them apart.",
    ),
    Bug(
        id="bug-rsm-truncates-rip",
        title="KVM cut the restored RIP to 32 bits when the SMI handler had left 64-bit mode",
        origin="host-kernel",
        family="smm",
        shape=Shape(
            "internal-error", 1, mode=("long64",), linear=((0x8000_0000, 0xFFFF_FFFF),), access=("fetch",), smm=False
        ),
        versions=Affected(fixed="6.1"),
        needs_version=True,
        at_most="possible",
        what=(
            "RSM executed in real or 32-bit mode returned to a 64-bit guest, but KVM still wrote RIP as that mode"
            " would: its upper half was lost, and a kernel at ffffffff8… went on at 8…"
        ),
        fix=Fix(
            vmm="Turn SMM off (QEMU: -machine smm=off).",
            host=f"{_UPDATE} to 6.1.",
        ),
        references=(
            '"KVM: x86: emulator: update the emulation mode after rsm" (in v6.1)',
            "https://lkml.iu.edu/hypermail/linux/kernel/2210.3/07109.html",
        ),
        example="suberror 1 without bytes, 64-bit mode, RIP=0000000081a0271c, on 5.15",
        confused_with="fetch-non-ram: a wild jump of the guest itself.",
    ),
    Bug(
        id="bug-mtrr-ap-runs-into-vga",
        title="The 4.2 rework of guest memory types sent OVMF's second processors astray",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape(
            "internal-error",
            1,
            mode=("prot16", "prot32"),
            linear=((0xA_0000, 0xA_0000),),
            layout=("none",),
            registers=(("cr0", 1 << 31, 0),),
        ),
        versions=Affected(since="4.2", fixed="4.5"),
        what=(
            "With 4.2 OVMF became so slow at start, or so badly ordered, that application processors ran through their"
            " start-up code into memory that was not ready, and on to 0xa0000, where the VGA window begins."
        ),
        fix=Fix(
            vmm="Start with one vCPU to see whether it goes away.",
            host=f"{_UPDATE}: the last 4.4.y was reported good, 4.1 was not affected.",
        ),
        references=(
            "https://bugzilla.kernel.org/show_bug.cgi?id=107561",
            "https://github.com/tianocore/edk2/issues/6597",
            "https://github.com/tianocore/edk2/issues/23",
        ),
        example="several vCPUs at once: suberror 1, EIP=000a0000, ECX=c0000080; or CS=9f00, EIP=00001000",
        confused_with="fetch-non-ram: the guest's own jump into the VGA window, on any kernel.",
        corpus=("035-edk2-23-ap-zeros", "036-edk2-73-large-vm-linux-42"),
    ),
    Bug(
        id="bug-l1-reset-nested-vmcs",
        title="A reset of a guest that is itself a hypervisor left its nested VMCS loaded",
        origin="host-kernel",
        family="vcpu-state",
        shape=Shape("entry-failure", hardware_error=_CONTROLS, rip=(0xFFF0,), reset=("mixture", "half-reset")),
        at_most="possible",
        what=(
            "When save and restore of nested state were new (2019), resetting a VM while a hypervisor ran in it left"
            " KVM with a VMCS that no longer existed: vmptrld failed, and the entry at the reset vector with it."
        ),
        fix=Fix(
            vmm="Update QEMU; stop the guest's hypervisor before a reset, or use -cpu host,-vmx.",
            host="Update the kernel; look for `kvm: vmptrld … failed` in its log.",
        ),
        references=("https://lore.kernel.org/kvm/9803d517-f52b-66b8-cefc-d5b89e55de75@siemens.com/",),
        example="hardware error 0x7 at the reset vector with CS attributes 00a09b00, while Jailhouse ran in the guest",
        confused_with="vcpu-state-mixture: the same mixture of states with 0x80000021.",
        corpus=("014-jailhouse-l1-reset-vmptrld",),
    ),
    Bug(
        id="bug-intel-pt-in-guests",
        title="KVM's Intel PT for guests loads states that VM entry refuses",
        origin="host-kernel",
        family="host-kernel-bug",
        shape=Shape(
            "entry-failure",
            hardware_error=(*_CONTROLS, *_INVALID_STATE),
            control=(("vm_entry_controls|entry_controls", 1 << 18, 1 << 18),),
        ),
        versions=Affected(fixed="6.12"),
        at_most="possible",
        what=(
            "With pt_mode=1 KVM gives Intel PT to the guest and switches its MSRs at every entry. Guests and VMMs can"
            " make it load values that fail the entry; the mode was never finished, and 6.12 hid it as broken."
        ),
        fix=Fix(host="Load kvm_intel without pt_mode=1."),
        references=(
            '"KVM: VMX: Bury Intel PT virtualization (guest/host mode) behind CONFIG_BROKEN" (in v6.12)',
            "kvm list: Xiaoyao Li, fixes for PT, patch 6: userspace can cause vm-entry failure",
        ),
        example="hardware error 0x80000021, VMCS dump: EntryControls with bit 18 (load IA32_RTIT_CTL) set",
        confused_with="invalid-guest-state: entries without PT.",
    ),
    Bug(
        id="bug-task-switch-with-cet",
        title="KVM refuses hardware task switches while CET is on",
        origin="host-kernel",
        family="emulator-gap",
        shape=Shape(
            "internal-error", 1, layout=("none",), mode=("prot16", "prot32"), registers=(("cr4", _CR4_CET, _CR4_CET),)
        ),
        versions=Affected(since="6.18"),
        what=(
            "Shadow stacks take part in a task switch, and KVM does not emulate that. From 6.18 on, with CR4.CET set,"
            " it stops at every hardware task switch instead of doing half of it."
        ),
        fix=Fix(
            guest="Do not switch tasks in hardware with shadow stacks or IBT on.",
            vmm="Hide CET from the guest's CPUID.",
        ),
        references=('"KVM: x86: Don\'t emulate task switches when IBT or SHSTK is enabled" (in v6.18)',),
        example="suberror 1 without data in 32-bit protected mode, CR4 bit 23 set",
        confused_with="task-switch: the same without CET.",
    ),
)
