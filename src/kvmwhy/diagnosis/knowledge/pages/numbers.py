"""What people type into a search engine: the numbers and words of error lines, and which page they lead to."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.knowledge.pages.page import Page

_GIVE = "Give the whole log to `kvmwhy explain`: the words and registers below this line tell which it was."

NUMBERS: Final = (
    Page(
        id="suberror-1",
        kind="number",
        title="KVM internal error. Suberror: 1",
        phrase="KVM could not emulate an instruction",
        what=(
            "KVM_INTERNAL_ERROR_EMULATION. KVM had to emulate one instruction and could not: it has no handler, the handler failed,"
            " or there was no RAM to fetch the instruction from."
        ),
        recognise=_GIVE,
        see=("emulation-no-handler", "fetch-not-ram", "emulation-gives-up", "emulation-failed"),
        aliases=("kvm internal error suberror 1", "suberror 1", "emulation failure"),
    ),
    Page(
        id="suberror-2",
        kind="number",
        title="KVM internal error. Suberror: 2",
        phrase="a second event came during the delivery of one",
        what="KVM_INTERNAL_ERROR_SIMUL_EX. An exception exit came while another event was being delivered.",
        recognise=_GIVE,
        see=("simultaneous-events",),
        aliases=("kvm internal error suberror 2", "suberror 2"),
    ),
    Page(
        id="suberror-3",
        kind="number",
        title="KVM internal error. Suberror: 3",
        phrase="an event could not be delivered",
        what=(
            "KVM_INTERNAL_ERROR_DELIVERY_EV. While an interrupt or exception was being delivered the CPU left the guest for a reason"
            " that cannot happen then, mostly because the IDT, the stack or a page table is not in RAM."
        ),
        recognise=_GIVE,
        see=("event-delivery",),
        aliases=("kvm internal error suberror 3", "suberror 3"),
    ),
    Page(
        id="suberror-4",
        kind="number",
        title="KVM internal error. Suberror: 4",
        phrase="KVM has no handler for the exit",
        what="KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON. The hardware gave an exit reason that KVM does not handle.",
        recognise=_GIVE,
        see=("exit-unhandled",),
        aliases=("kvm internal error suberror 4", "suberror 4"),
    ),
    Page(
        id="hardware-error-0x80000021",
        kind="number",
        title="KVM: entry failed, hardware error 0x80000021",
        phrase="the CPU refused the guest's state",
        what=(
            "VM entry failed on Intel, basic reason 33: invalid guest state. The number is the same for every broken rule; it is not a"
            " cause. Windows guests with SMM, restored snapshots, hobby kernels and nested hosts all end with it."
        ),
        recognise=_GIVE,
        see=("entry-refused-guest-state", "SDM vol. 3C, 27.8"),
        aliases=("0x80000021", "80000021", "kvm entry failed, hardware error 0x80000021", "-2147483615", "2147483681"),
    ),
    Page(
        id="hardware-error-0x80000022",
        kind="number",
        title="KVM: entry failed, hardware error 0x80000022",
        phrase="an MSR could not be loaded at VM entry",
        what="VM entry failed on Intel, basic reason 34: loading an MSR from the VM-entry MSR-load list failed.",
        recognise=_GIVE,
        see=("entry-refused-controls",),
        aliases=("0x80000022", "80000022", "kvm entry failed, hardware error 0x80000022"),
    ),
    Page(
        id="hardware-error-0x7",
        kind="number",
        title="KVM: entry failed, hardware error 0x7",
        phrase="the CPU refused the control fields",
        what=(
            "VM-instruction error 7 on Intel: the VMCS's control fields are invalid. KVM writes these, so on real hardware it is a bug of"
            " KVM. Most reports come from hosts that are VMs themselves: VMware, Hyper-V, cloud instances."
        ),
        recognise=_GIVE,
        see=("entry-refused-controls", "outer-hypervisor"),
        aliases=("0x7", "hardware error 0x7", "kvm entry failed, hardware error 0x7", "hardware error 7"),
    ),
    Page(
        id="hardware-error-0x8",
        kind="number",
        title="KVM: entry failed, hardware error 0x8",
        phrase="the CPU refused the host state",
        what="VM-instruction error 8 on Intel: the VMCS's host state is invalid.",
        recognise=_GIVE,
        see=("entry-refused-controls",),
        aliases=("0x8", "hardware error 0x8", "kvm entry failed, hardware error 0x8"),
    ),
    Page(
        id="hardware-error-0x0",
        kind="number",
        title="KVM: entry failed, hardware error 0x0",
        phrase="VM entry failed without a reason",
        what=(
            "The instruction that enters the guest failed and gave no number: there is no current VMCS. Seen on hosts that are VMs"
            " themselves, and where another hypervisor on the host switched VMX off."
        ),
        recognise=_GIVE,
        see=("entry-vmfail-no-number", "outer-hypervisor", "host-setup"),
        aliases=("0x0", "hardware error 0x0", "kvm entry failed, hardware error 0x0"),
    ),
    Page(
        id="hardware-error-0xffffffff",
        kind="number",
        title="KVM: entry failed, hardware error 0xffffffff",
        phrase="VMRUN refused the guest's state",
        what=(
            "VMEXIT_INVALID on AMD: VMRUN found a state that it refuses. The CPU does not say which. Newer kernels print"
            " 0xffffffffffffffff."
        ),
        recognise=_GIVE,
        see=("entry-refused-guest-state", "APM vol. 2, 15.5.1"),
        aliases=(
            "0xffffffff",
            "ffffffff",
            "0xffffffffffffffff",
            "kvm entry failed, hardware error 0xffffffff",
            "vmexit_invalid",
        ),
    ),
    Page(
        id="bad-address",
        kind="number",
        title="error: kvm run failed Bad address",
        phrase="KVM could not get the memory behind a guest address",
        what=(
            "KVM_RUN returned EFAULT. A guest physical address belongs to a memory slot, and the VMM's memory behind it could not be"
            " had: a file that was truncated, hugetlb pages or /dev/shm that ran out, a device BAR that the kernel cannot map, a"
            " range that was protected or unmapped."
        ),
        recognise="Look at what backs guest memory, and for a VFIO or OOM message in the host's kernel log at the same moment.",
        see=("run-errno", "host-setup"),
        aliases=("kvm run failed bad address", "error kvm run failed bad address", "efault", "bad address"),
    ),
    Page(
        id="function-not-implemented",
        kind="number",
        title="error: kvm run failed Function not implemented",
        phrase="an access could not be decoded",
        what=(
            "KVM_RUN returned ENOSYS on arm64. The guest touched an address outside RAM with an instruction for which the CPU gives no"
            " syndrome, and KVM has no emulator there."
        ),
        recognise="A load or store of two registers, with write-back, of a SIMD register, or an atomic, at the PC that is shown.",
        see=("run-errno", "emulation-no-handler"),
        aliases=("kvm run failed function not implemented", "error kvm run failed function not implemented", "enosys"),
    ),
    Page(
        id="device-or-resource-busy",
        kind="number",
        title="ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy",
        phrase="another hypervisor holds VMX",
        what="KVM could not switch VMX or SVM on, because another hypervisor (VirtualBox, VMware) has it, or TDX or SEV state is left.",
        recognise="`lsmod` shows vboxdrv or vmmon; a VirtualBox or VMware VM is open.",
        see=("setup-refused", "host-setup"),
        aliases=("ebusy", "kvm_create_vm busy", "failed to initialize kvm device or resource busy"),
    ),
)
