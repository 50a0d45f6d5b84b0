"""What can happen: one page for each mechanism, in the order in which they are decided."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.pages.page import Page

_EMULATOR = "arch/x86/kvm/emulate.c: opcode_table, twobyte_table"
_ATTACH = "While the VMM lives, run `kvmwhy attach PID`: it reads KVM's record and the registers from the process."
_DUMP = (
    "Load kvm_intel with dump_invalid_vmcs=1, or kvm_amd with dump_invalid_vmcb=1, and reproduce: the host's kernel then"
    " logs what the CPU was given. Give kvmwhy that log."
)

MECHANISMS: Final = (
    Page(
        id="emulation-no-handler",
        kind="mechanism",
        title="KVM had to emulate an instruction that its emulator does not have",
        phrase="KVM's emulator has no handler for the instruction",
        what=(
            "KVM runs guest code on the CPU. It emulates a single instruction when the CPU cannot carry it out in the guest:"
            " mostly because a memory operand is not in RAM, on old CPUs also because the guest is in real mode. The"
            " emulator knows a part of the instruction set. For SSE, AVX and other newer instructions it often has no"
            " handler; then KVM stops the vCPU. On arm64 the same happens to loads and stores for which the CPU reports"
            " no syndrome, such as LDP."
        ),
        recognise=(
            "KVM internal error, suberror 1, with instruction bytes that can be read; the operand leads to a device or to"
            " a hole in the memory map."
        ),
        fix=Fix(
            guest=(
                "Access the device with plain loads and stores of one register (readl, writel, volatile). If the address"
                " should be RAM, find out why the guest believes so."
            ),
            vmm="If the address should be RAM, map it there. A newer kernel may have the handler: see `kvmwhy atlas`.",
            host="Update the kernel if `kvmwhy atlas` shows that a newer one has the handler.",
        ),
        see=("emulation-gives-up", "fetch-not-ram", _EMULATOR),
    ),
    Page(
        id="emulation-gives-up",
        kind="mechanism",
        title="KVM's emulator has a handler for the instruction, but it failed",
        phrase="KVM's emulator tried the instruction and gave up",
        what=(
            "The emulator knows the instruction, and the handler ended with a failure: RSM with a state that cannot be"
            " loaded, a task switch, a far transfer, an instruction that the emulator refuses in this mode, or a page walk"
            " of its own that failed."
        ),
        recognise="Suberror 1 with bytes that the emulator does know, for example 0f aa (RSM).",
        fix=Fix(
            guest="Check the state that the instruction loads: segments, descriptors, the saved state of SMM.",
            vmm="Check the state that was restored or migrated into the vCPU.",
            host="Try the newest kernel: many of these handlers were corrected over the years.",
        ),
        see=("emulation-no-handler", _EMULATOR),
    ),
    Page(
        id="emulation-failed",
        kind="mechanism",
        title="KVM could not emulate an instruction, and it is not shown which",
        phrase="KVM could not emulate an instruction",
        what=(
            "Suberror 1 says that emulation failed. Without the instruction's bytes, the registers or the words of the exit"
            " it cannot be told whether the emulator has no handler, gave up, or could not fetch the instruction."
        ),
        recognise="A bare line `KVM internal error. Suberror: 1`, or the same from a VMM that prints nothing else.",
        fix=Fix(vmm=_ATTACH),
        see=("emulation-no-handler", "emulation-gives-up", "fetch-not-ram"),
    ),
    Page(
        id="fetch-not-ram",
        kind="mechanism",
        title="The guest executes where there is no RAM",
        phrase="there is no RAM where the guest executes",
        what=(
            "The vCPU's instruction pointer leads to a guest physical address without RAM: a hole, a device, or a memory slot"
            " that is missing. KVM can fetch no instruction there, so it can neither run nor emulate it. The jump itself"
            " happened earlier and is not recorded."
        ),
        recognise=(
            "Suberror 1 without instruction bytes. On Intel the exit qualification has the fetch bit (2), on AMD"
            " EXITINFO1 has bit 4."
        ),
        fix=Fix(
            guest="Look for what led there: a smashed stack or return address, a missing or wrong image, a wrong entry point.",
            vmm="Check that the memory slot, the firmware image and the entry address are what the guest expects.",
        ),
        see=("emulation-no-handler",),
    ),
    Page(
        id="event-delivery",
        kind="mechanism",
        title="An interrupt or exception could not be delivered",
        phrase="an event could not be delivered to the guest",
        what=(
            "While the CPU delivered an interrupt or exception to the guest, it met something that KVM must emulate: the IDT,"
            " the stack, the TSS or a page table is not in RAM. KVM cannot emulate half of a delivery and stops. Some"
            " reports are different: an exit that has nothing to do with the delivery, with stale delivery information."
        ),
        recognise="KVM internal error, suberror 3; or suberror 1 with valid IDT-vectoring information.",
        fix=Fix(
            guest="Check IDTR, the stack pointer, TR and CR3: one of them leads to where there is no RAM.",
            vmm="Check that no memory slot was removed or moved while vCPUs ran.",
        ),
        see=("simultaneous-events", "arch/x86/kvm/vmx/vmx.c: __vmx_handle_exit"),
        aliases=("delivery-ev",),
    ),
    Page(
        id="simultaneous-events",
        kind="mechanism",
        title="A second event came while one was being delivered",
        phrase="a second event came during the delivery of one",
        what=(
            "KVM was handling an exception exit, and the exit says that another event was being delivered at that moment. KVM"
            " does not know which of the two to deliver first and stops. With shadow paging, an IDT or stack without"
            " RAM ends like this."
        ),
        recognise="KVM internal error, suberror 2; data[0] is the event, data[1] the exception.",
        fix=Fix(guest="Check the IDT, the stack and the page tables.", host="Check for a nested or very old KVM."),
        see=("event-delivery",),
    ),
    Page(
        id="exit-unhandled",
        kind="mechanism",
        title="KVM has no handler for the exit",
        phrase="the CPU left the guest for a reason that KVM has no handler for",
        what=(
            "The hardware, or the hypervisor below, reported an exit reason that this KVM does not handle. Either the feature"
            " behind it should not be switched on, or the kernel is older than the feature, or the layer below is wrong."
        ),
        recognise="KVM internal error, suberror 4; `unexpected exit reason` in the host's kernel log.",
        fix=Fix(
            host="Update the kernel. On a host that is itself a VM, look at the hypervisor below.",
            vmm="Hide the CPU feature from the guest: -cpu host,-FEATURE.",
        ),
        see=("exit-unknown-to-kvm",),
    ),
    Page(
        id="entry-refused-guest-state",
        kind="mechanism",
        title="The CPU refused to enter the guest because of the guest's state",
        phrase="the CPU refused the guest's state at VM entry",
        what=(
            "Before it enters a guest, the CPU checks the guest's registers against the rules of the manual. One rule did not"
            " hold. The state came from the guest itself, from the VMM that loaded it, or from KVM."
        ),
        recognise="hardware error 0x80000021 (Intel); 0xffffffff or 0xffffffffffffffff (AMD).",
        fix=Fix(
            guest="Look at what the guest did just before: a mode switch, LTR, MOV SS, SMM.",
            vmm="Check the order and the values of KVM_SET_SREGS, KVM_SET_REGS and KVM_SET_VCPU_EVENTS.",
            host=_DUMP,
        ),
        see=("entry-refused-controls", "SDM vol. 3C, 27.3.1", "APM vol. 2, 15.5.1"),
    ),
    Page(
        id="entry-refused-controls",
        kind="mechanism",
        title="The CPU refused to enter the guest because of KVM's own settings",
        phrase="the CPU refused KVM's settings at VM entry",
        what=(
            "The controls, the host state, the event to inject, the MSR lists or the launch state were not acceptable. The"
            " guest cannot set these. The cause is KVM, or the hypervisor below if the host is itself a VM."
        ),
        recognise="hardware error 0x7, 0x8 and other VM-instruction errors; 0x80000022.",
        fix=Fix(host=_DUMP),
        see=("entry-refused-guest-state", "SDM vol. 3C, 31.4"),
    ),
    Page(
        id="entry-vmfail-no-number",
        kind="mechanism",
        title="VM entry failed without a number",
        phrase="VM entry failed and no reason was given",
        what=(
            "The instruction that enters the guest failed without an error number: the CPU, or the hypervisor below, says that"
            " there is no current VMCS. KVM prints 0."
        ),
        recognise="hardware error 0x0.",
        fix=Fix(host="Check what else uses VMX on this host, and the hypervisor below if the host is itself a VM."),
        see=("entry-refused-controls", "SDM vol. 3C, 31.2"),
    ),
    Page(
        id="run-errno",
        kind="mechanism",
        title="ioctl(KVM_RUN) failed",
        phrase="ioctl(KVM_RUN) returned an error",
        what=(
            "KVM_RUN did not exit with a reason; the system call itself failed. EFAULT: KVM could not get the memory behind a"
            " guest address from the VMM's process. ENOSYS on arm64: an access that cannot be decoded. ENOMEM, EINVAL,"
            " EIO, EEXIST have their own causes. kvm_run holds nothing that belongs to this."
        ),
        recognise="`error: kvm run failed Bad address`, `KVM_RUN ... os error 14`.",
        fix=Fix(
            host="For EFAULT, look at what backs the guest's memory: hugetlb pages, /dev/shm, files, device BARs, cgroup limits.",
            vmm="Print errno, and handle KVM_EXIT_MEMORY_FAULT where the kernel offers it.",
        ),
        see=("bad-address",),
    ),
    Page(
        id="setup-refused",
        kind="mechanism",
        title="KVM refused a request before or beside running the guest",
        phrase="KVM refused a request that sets up the VM",
        what=(
            "An ioctl other than KVM_RUN failed: creating the VM or a vCPU, setting registers, MSRs or memory regions, or"
            " launching a confidential guest; or /dev/kvm could not be opened. The guest did not run, or it was being"
            " reset or migrated."
        ),
        recognise="The name of the ioctl and an errno: KVM_CREATE_VM, KVM_SET_MSRS, KVM_SET_USER_MEMORY_REGION.",
        fix=Fix(host="Look at the errno and at the host's kernel log; `kvmwhy doctor` checks the usual conditions."),
        see=("host-setup",),
    ),
    Page(
        id="triple-fault",
        kind="mechanism",
        title="The guest shut itself down with a triple fault",
        phrase="the guest took a triple fault",
        what=(
            "An exception could not be delivered, the double fault for it could not be delivered either, and the CPU shut"
            " down. KVM reports it correctly; the reason lies in the guest. Some guests reboot this way on purpose."
        ),
        recognise="KVM_EXIT_SHUTDOWN, `Shutdown`, EXIT_REASON_TRIPLE_FAULT.",
        fix=Fix(
            guest="Find the first exception: run with QEMU's -d int,cpu_reset, or record a trace with `kvmwhy watch`.",
            vmm="Do not treat an orderly reboot as a failure.",
        ),
    ),
    Page(
        id="exit-unknown-to-vmm",
        kind="mechanism",
        title="A valid KVM exit that this VMM does not handle",
        phrase="KVM made a valid exit that this VMM does not handle",
        what=(
            "KVM stopped the vCPU for a reason that userspace is meant to handle, and this VMM has no code for it: a memory"
            " fault of a confidential guest, a system event, an access without syndrome on arm64, a bus lock."
        ),
        recognise="`unknown exit reason 24`, `Unsupported(39)`, `MemoryFault`, `unhandled exit`.",
        fix=Fix(vmm="Handle the exit, or do not switch on the capability that causes it.", host="Update the VMM."),
    ),
    Page(
        id="exit-unknown-to-kvm",
        kind="mechanism",
        title="KVM did not know the hardware's exit reason",
        phrase="KVM did not know the hardware's exit reason",
        what=(
            "KVM returned KVM_EXIT_UNKNOWN with the hardware's number; or nobody filled kvm_run, which looks the same. Newer"
            " kernels report suberror 4 instead."
        ),
        recognise="`KVM: unknown exit, hardware reason N`.",
        fix=Fix(host="Update the kernel; on a host that is itself a VM, look at the hypervisor below."),
        see=("exit-unhandled",),
    ),
    Page(
        id="exception-exit",
        kind="mechanism",
        title="KVM handed an exception to the VMM",
        phrase="KVM handed an exception of the guest to the VMM",
        what=(
            "KVM intercepted an exception for which it has no handling and gave it to userspace, which rarely knows what to do"
            " with it. Old kernels did so for several exceptions; a split lock (#AC) is the usual one today."
        ),
        recognise="`KVM: exception N exit (error code ...)`.",
        fix=Fix(host="Update the kernel; for #AC see the parameter split_lock_detect of the host's kernel."),
    ),
    Page(
        id="guest-loops",
        kind="mechanism",
        title="The same exit repeats for ever",
        phrase="the same exit repeats without end",
        what=(
            "No failure is reported. KVM enters the guest, the guest exits at the same place for the same reason, and so on."
            " The VM uses a whole CPU and does nothing."
        ),
        recognise="A trace in which one exit and one RIP repeat; kernel messages that flood the log.",
        fix=Fix(host="Record a trace with `kvmwhy watch` or trace-cmd and give it to kvmwhy.", vmm=_ATTACH),
    ),
    Page(
        id="undef-injected",
        kind="mechanism",
        title="KVM refused a register or an instruction, and the guest got an exception",
        phrase="KVM refused it and gave the guest an exception",
        what=(
            "KVM does not implement the register or instruction, so the guest takes #UD, #GP or an undefined-instruction"
            " abort and goes on. The VM is not stopped. What the guest makes of the exception decides what is seen."
        ),
        recognise="arm64: `Unsupported guest sys_reg access`; x86: `unhandled rdmsr` beside a guest's #GP.",
        fix=Fix(
            guest="Check the CPU's feature bits before using the register or instruction.",
            vmm="Do not offer the feature to the guest.",
            host="Update the kernel if a newer one implements it.",
        ),
    ),
    Page(
        id="host-trouble",
        kind="mechanism",
        title="The host's kernel is in trouble",
        phrase="the host's kernel is in trouble",
        what=(
            "Only messages of the host's kernel are shown: an oops, a WARNING, a fault of an I/O device, a failed memory"
            " check. No guest's failure is among them, but guests can fail because of it."
        ),
        recognise="`BUG:`, `Oops`, `WARNING: CPU:`, a call trace with KVM's functions.",
        fix=Fix(host="Report the first such message with the kernel's version; the later ones often follow from it."),
    ),
    Page(
        id="not-this",
        kind="mechanism",
        title="This is not a failure of KVM",
        phrase="another hypervisor or an emulator printed this",
        what=(
            "The text looks like KVM's and comes from another program: Xen, VirtualBox, VMware, HAXM, Hyper-V, bhyve, or"
            " QEMU's own emulator TCG. The rules of the CPU are the same everywhere; KVM has no part in it."
        ),
        recognise="The program's own marks: (XEN), VERR_, CCS=/CCO= in a register dump.",
    ),
    Page(
        id="not-shown",
        kind="mechanism",
        title="A symptom is shown, and no record of a failure",
        phrase="only a symptom is shown",
        what=(
            "What is shown tells that a VM is paused or in an internal error, or it is a trace in which nothing fails. KVM's"
            " record is elsewhere: in the VMM's log, in its kvm_run page, or in the host's kernel log."
        ),
        recognise="`paused (internal-error)`, `paused (unknown)`, `VM status: internal-error`.",
        fix=Fix(
            vmm=_ATTACH,
            host="Look into the VMM's log, for libvirt /var/log/libvirt/qemu/NAME.log, and into the host's kernel log.",
        ),
    ),
)
