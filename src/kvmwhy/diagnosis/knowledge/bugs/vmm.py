"""Bugs of QEMU: versions are QEMU's."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.bug import Bug
from kvmwhy.diagnosis.knowledge.kernel_version import Affected
from kvmwhy.diagnosis.knowledge.predicate import Shape

_XSAVE = (
    "xsave",
    "xsave64",
    "xsavec",
    "xsavec64",
    "xsaveopt",
    "xsaveopt64",
    "xsaves",
    "xsaves64",
    "xrstor",
    "xrstor64",
)
_ABOVE = ("high", "above-ram")
_CXL = Fix(
    guest="Do not online the CXL region as system RAM, or keep page tables and kernel data out of it.",
    vmm="Use a QEMU that maps the window as RAM under KVM, or run without KVM (TCG).",
)
_CXL_REFERENCES = (
    "https://patchew.org/QEMU/20260317033304.3185291-1-me@linux.beauty",
    'kvm and linux-cxl lists, 2023-10-10: "Accessing emulated CXL memory is unstable"',
)

BUGS: Final = (
    Bug(
        id="bug-qemu-reset-gif",
        same="vcpu-state-mixture",
        title="QEMU set an AMD-only flag in the nested state at reset, and the rest of the reset was never loaded",
        origin="vmm",
        family="vcpu-state",
        shape=Shape("entry-failure", hardware_error=(0x8000_0021,), reset=("mixture",), mode=("real16",)),
        hints=Shape(smm=False),
        versions=Affected(since="5.0.50", fixed="5.0.92"),
        what=(
            "In the development of 5.1 every reset claimed a set GIF. KVM on Intel rejects that flag, QEMU stopped"
            " loading registers there, and the guest started at the reset CS with its old EIP."
        ),
        fix=Fix(vmm="Use QEMU 5.1 or newer, or start with -cpu host,-vmx."),
        references=(
            'QEMU 0baa4b445e ("KVM: fix CPU reset wrt HF2_GIF_MASK")',
            "https://lore.kernel.org/qemu-devel/87pn8mo20i.fsf@vitty.brq.redhat.com/",
        ),
        example="hardware error 0x80000021 after system_reset, CS=f000 ffff0000 with EIP=906428e6",
        confused_with="vcpu-state-mixture: other VMMs and versions that load half a state.",
        corpus=("010-qemu-51-reset-nested-gif",),
    ),
    Bug(
        id="bug-qemu-cxl-window-xsave",
        title="QEMU emulates CXL memory access by access, and the guest uses it as RAM",
        origin="vmm",
        family="emulator-gap",
        shape=Shape("internal-error", 1, mnemonic=_XSAVE, mode=("long64",)),
        hints=Shape(place=_ABOVE),
        what=(
            "To interleave it between devices, QEMU models a CXL memory window as a device: under KVM each access to it"
            " is emulated. As system RAM it then holds task stacks and XSAVE areas, and no kernel emulates XSAVE."
        ),
        fix=_CXL,
        references=_CXL_REFERENCES,
        example="suberror 1, bytes 48 0f c7 61 40 (xsavec64), NPF at 0x4a0003140",
        confused_with="emulator-no-handler: an XSAVE area that lies in a real device by mistake.",
        corpus=("017-cxl-stress-xsave-and-pagetable", "022-patchew-cxl-xsavec-amd"),
    ),
    Bug(
        id="bug-qemu-cxl-window-tables",
        title="The guest's page tables lie in CXL memory that QEMU emulates access by access",
        origin="vmm",
        family="event-delivery",
        shape=Shape("internal-error", 3, reason=(48, 49), structure=("page tables",), place=_ABOVE, mode=("long64",)),
        what=(
            "To interleave it between devices, QEMU models a CXL memory window as a device. As system RAM it soon holds"
            " page tables, and the CPU cannot walk tables in emulated memory."
        ),
        fix=_CXL,
        references=_CXL_REFERENCES,
        example="suberror 3: 0x80000b0e 0x31 0xd81 0x390074ac0, CR3=0000000390074000",
        confused_with="event-delivery-non-ram: stacks and descriptor tables in a device.",
        also=(),
        corpus=("008-cxl-emulated-memory-as-ram", "017-cxl-stress-xsave-and-pagetable"),
    ),
    Bug(
        id="bug-qemu-memslot-gap",
        same="memslot-race",
        title="QEMU took a memory slot away for a moment to change it, while another vCPU ran in it",
        origin="vmm-race",
        family="memslot-race",
        shape=Shape(
            "internal-error",
            1,
            access=("fetch",),
            place=("bios", "option-rom", "low-ram", "ebda", "ram"),
            code_unreadable=False,
        ),
        versions=Affected(fixed="8.0"),
        what=(
            "To resize or split a slot QEMU deletes it and adds it again. A vCPU that fetched from it in between found"
            " no memory. At start-up, with several vCPUs and cpu-pm=on, firmware's changes to the BIOS area make such"
            " gaps."
        ),
        fix=Fix(vmm="Update QEMU to 8.0; before, start without -overcommit cpu-pm=on."),
        references=(
            'QEMU f39b7d2b96e3 ("kvm: Atomic memslot updates") (in 8.0)',
            "https://bugzilla.redhat.com/show_bug.cgi?id=1979276",
        ),
        example="suberror 1 without bytes, NPF fetch at 0xf7a21, yet the code there reads eb fd",
        confused_with="fetch-non-ram: there the VMM cannot read the code either.",
    ),
    Bug(
        id="bug-qemu-migration-nested-smm",
        same="vcpu-state-mixture",
        title="After migration in the middle of an SMI, QEMU loaded half of the vCPU's state",
        origin="vmm",
        family="vcpu-state",
        shape=Shape("internal-error", 3, reason=(48, 49), rip=(0xFFF0,), mode=("long64",), smm=False),
        what=(
            "KVM checks nested state against SMM, but QEMU told it of SMM only later. For a VM whose guest is a"
            " hypervisor (Windows with virtualization-based security) the ioctl failed, and RIP kept its reset value"
            " while CR3 points into SMRAM."
        ),
        fix=Fix(
            vmm="Migrate again; newer QEMU reports the failure instead of starting the vCPU.",
            host="Do not migrate while the guest writes EFI variables, for instance during its boot.",
        ),
        references=("https://lore.kernel.org/all/20231026054201.87845-1-eiichi.tsukata@nutanix.com/",),
        example="suberror 3: 0x80000b0e 0x31 0x683 0x7f809000 0x26, RIP=000000000000fff0, CR3=000000007f809000",
        confused_with="event-delivery-non-ram: a running guest's own page tables.",
    ),
    Bug(
        id="bug-qemu-multiboot-split-lock",
        same="split-lock",
        title="QEMU's multiboot option ROM loads a descriptor across a cache line",
        origin="guest-firmware",
        family="split-lock",
        shape=Shape("exception-exit", exception=17, linear=((0xC_0000, 0xD_FFFF),), mode=("prot16", "prot32")),
        what=(
            "The descriptor table of multiboot_dma.bin is not aligned. Loading CS marks the descriptor as accessed, a"
            " locked write, and where it straddles a cache line the CPU raises #AC if split locks are detected."
        ),
        fix=Fix(
            vmm="Update QEMU (a fix was posted in August 2025), or boot the kernel another way than with -kernel.",
            host="Boot with split_lock_detect=off.",
        ),
        references=('qemu-devel, August 2025, Xiaoyao Li: "split lock in multiboot_dma.bin"',),
        example="KVM: exception 17 exit (error code 0x0) at c000:01e3, GDT=000c02b4",
        confused_with="split-lock: code of the guest that does the same.",
        corpus=("064-split-lock-ac-multiboot",),
    ),
    Bug(
        id="bug-qemu-sev-term-unknown",
        same="exit-unknown-to-vmm",
        title="An SEV guest asked to be terminated, and QEMU does not know that request",
        origin="confidential-stack",
        family="confidential-guest",
        shape=Shape("other", vmm_exit=(24,), reset=("hidden", "zero")),
        what=(
            "KVM_EXIT_SYSTEM_EVENT with type SEV_TERM: the guest's firmware or kernel found something it cannot trust"
            " and gave up. Older QEMU prints the number of the exit and an empty dump."
        ),
        fix=Fix(
            guest="Read the guest's serial console: it says why it gives up.",
            vmm="Use QEMU, OVMF and host kernel of one release; newer QEMU prints the guest's reason.",
        ),
        references=(
            "https://github.com/sc2-sys/deploy/issues/110",
            "include/uapi/linux/kvm.h: KVM_SYSTEM_EVENT_SEV_TERM",
        ),
        example="KVM: unknown exit reason 24, all general registers zero",
        confused_with="unknown-to-vmm: other exits that are newer than the VMM.",
    ),
    Bug(
        id="bug-vmm-memory-fault-exit",
        same="exit-unknown-to-vmm",
        title="The VMM does not know the exit for memory that is private when it should be shared, or the reverse",
        origin="vmm",
        family="confidential-guest",
        shape=Shape("other", vmm_exit=(39,), about_attributes=True),
        what=(
            "KVM_EXIT_MEMORY_FAULT (since Linux 6.8) tells the VMM of an access that its own bookkeeping of private"
            " memory does not allow. A VMM that is older than the kernel's interface prints the number and stops."
        ),
        fix=Fix(vmm="Update the VMM; handle exit 39 by converting the range with KVM_SET_MEMORY_ATTRIBUTES."),
        references=(
            "include/uapi/linux/kvm.h: KVM_EXIT_MEMORY_FAULT",
            "Documentation/virt/kvm/api.rst: KVM_EXIT_MEMORY_FAULT",
        ),
        example="KVM: unknown exit reason 39",
        confused_with="host-memory-fault: without the exit, EFAULT means that there is no page at all.",
    ),
    Bug(
        id="bug-vmm-tdx-exit",
        same="exit-unknown-to-vmm",
        title="The VMM does not know the exit for a trust domain's request",
        origin="vmm",
        family="confidential-guest",
        shape=Shape("other", vmm_exit=(40,)),
        what=(
            "KVM_EXIT_TDX (since Linux 6.16) hands a domain's request for a quote, or for the list of calls, to the"
            " VMM. A VMM made for the patches before the merge knows it under another number or not at all."
        ),
        fix=Fix(vmm="Update the VMM to a version with TDX support for Linux 6.16 or later."),
        references=("include/uapi/linux/kvm.h: KVM_EXIT_TDX",),
        example="KVM: unknown exit reason 40",
        confused_with="unknown-to-vmm: other exits that are newer than the VMM.",
    ),
)
