"""Messages of KVM on riscv64, ppc64, s390x, loongarch and mips: arch/<name>/kvm."""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

RISCV64: Final[tuple[HostMessage, ...]] = (
    message("riscv-exit-error", "fault", form("VCPU exit error %d", "error")),
    message(
        "riscv-exit-state",
        "note",
        form("SEPC=0x%lx SSTATUS=0x%lx HSTATUS=0x%lx", "sepc sstatus hstatus"),
        form("SCAUSE=0x%lx STVAL=0x%lx HTVAL=0x%lx HTINST=0x%lx", "scause stval htval htinst"),
        form("SCAUSE=0x%lx STVAL=0x%lx", "scause stval"),
    ),
    message(
        "no-virtualization",
        "refusal",
        form("hypervisor extension not available"),
        form("require SBI v0.2 or higher"),
        form("require SBI RFENCE extension"),
    ),
    message(
        "kvm-mode",
        "note",
        form("hypervisor extension available"),
        form("using %s G-stage page table format", "mode"),
        form("highest G-stage page table mode is %s", "mode"),
        form("VMID %ld bits available", "bits"),
        form("AIA available with %d guest external interrupts", "interrupts"),
        form("using SBI nested acceleration with %s", "features"),
    ),
    message(
        "guest-memory-not-mapped",
        "fault",
        form("Failed to map in G-stage"),
        form("Invalid VMA page size 0x%lx", "size"),
        form("Failed to topup G-stage cache"),
        form("Failed to toup split page cache"),
    ),
    message("host-memory-missing", "fault", form("Failed to find VMA for hva 0x%lx", "hva")),
)
PPC64: Final[tuple[HostMessage, ...]] = (
    message("ppc-trap-in-host", "fault", form("KVM trap in HV mode while nested!"), form("KVM trap in HV mode!")),
    message(
        "ppc-unknown-trap",
        "fault",
        form("trap=0x%x | pc=0x%lx | msr=0x%llx", "trap pc msr"),
        form("exit_nr=0x%x | pc=0x%lx | msr=0x%lx", "trap pc msr"),
    ),
    message(
        "ppc-guest-state",
        "note",
        form("pc  = %.16lx  msr = %.16llx  trap = %x", "pc msr trap"),
        form("fault dar = %.16lx dsisr = %.8x", "dar dsisr"),
        form("cr = %.8lx  xer = %.16lx  dsisr = %.8x", "cr xer dsisr"),
        form("lpcr = %.16lx sdr1 = %.16lx last_inst = %.16lx", "lpcr sdr1 instruction"),
    ),
    message(
        "ppc-emulation-failed",
        "guest",
        form("Couldn't emulate instruction 0x%08x (op %d xop %d)", "instruction opcode extended"),
        form("kvmppc_exit_pr_progint: emulation at %lx failed (%08x)", "pc instruction"),
        form("kvmppc_handle_exit_pr: emulation at %lx failed (%08x)", "pc instruction"),
        form("kvmppc_handle_exit: emulation at %lx failed (%08lx)", "pc instruction"),
        form("%s: emulation at %lx failed (%08lx)", "_ pc instruction"),
        form("KVM: MMIO emulation failed (VSX repeat)", unit="VSX"),
        form("KVM: MMIO emulation failed (VMX repeat)", unit="VMX"),
        form("Guest access to device memory using unsupported instruction (opcode: 0x%08x)", "instruction"),
        form("Unrecognized TM-related instruction %#x for emulation", "instruction"),
    ),
    message(
        "ppc-register-refused",
        "guest",
        form("KVM: invalid SPR write: %d", "register", access="write"),
        form("KVM: invalid SPR read: %d", "register", access="read"),
        form("mtspr: unknown spr 0x%x", "register", access="write"),
        form("mfspr: unknown spr 0x%x", "register", access="read"),
    ),
    message(
        "ppc-memory-fault",
        "fault",
        form("KVM: Got unsupported MMU fault"),
        form("KVM: Got radix HV page fault with DSISR=%lx", "dsisr"),
        form("Couldn't get guest page for gpa %lx!", "gpa"),
        form("KVM: Can't copy data from 0x%lx!", "address"),
        form("KVM: Segment map for 0x%llx (0x%lx) failed", "address esid"),
        form("KVM: map_vrma at %lx failed, ret=%ld", "address error"),
    ),
    message(
        "ppc-hypercall-failed",
        "fault",
        form("KVM Guest Run VCPU hcall failed", call="guest run vcpu"),
        form("KVM: Guest Run VCPU invalid element %s at %ld", "what index", call="guest run vcpu"),
        form("KVM: Create Guest hcall failed, rc=%ld", "error", call="create guest"),
        form("KVM: Create Guest vcpu hcall failed, rc=%ld", "error", call="create guest vcpu"),
        form("KVM: TLB %s invalidation hcall failed, rc=%ld", "what error", call="TLB invalidation"),
        form("KVM-NESTEDv2: couldn't %s", "call"),
        form("kvm-hv: Could not configure parent hypervisor capabilities (rc=%ld)", "error", call="capabilities"),
        form("kvm-hv: Parent hypervisor does not support nesting (rc=%ld)", "error", call="nesting"),
    ),
    message(
        "ppc-nesting",
        "note",
        form("kvm-hv: nestedv2 get capabilities hcall failed, falling back to nestedv1 (rc=%ld)", "error"),
    ),
    message(
        "ppc-cpu-stuck", "fault", form("KVM: couldn't grab cpu %d", "cpu"), form("KVM: CPU %d seems to be stuck", "cpu")
    ),
    message(
        "no-virtualization",
        "refusal",
        form("KVM-HV: Host does not support TLBIE"),
        form("KVM-HV: Cannot determine method for accessing XICS"),
    ),
    message(
        "vm-not-created",
        "refusal",
        form("kvmppc_%s: Out of memory", "what"),
        form("KVM: Couldn't alloc HPT"),
        form("kvmppc_alloc_lpid: No LPIDs free"),
    ),
)
S390X: Final[tuple[HostMessage, ...]] = (
    message("s390-validity", "fault", form("unhandled validity intercept 0x%x", "code")),
    message("s390-vcpu-stopped", "fault", form("can't run stopped vcpu %d", "vcpu")),
    message("s390-secure-storage", "fault", form("Secure storage violation (%x) in task: %s, pid %d", "code task pid")),
    message("s390-protected-vm", "fault", form("protvirt destroy %s failed rc %x rrc %x", "what code reason")),
    message("s390-machine-check", "fault", form("guest machine check pid %d: %lx", "pid code")),
    message(
        "s390-notification",
        "fault",
        form("Unexpected notification intercept for UVC 0x%x", "code"),
        form("Unexpected program interrupt 0x%x, TEID 0x%016lx", "code teid"),
    ),
    message("no-virtualization", "refusal", form("SIE is not available")),
    message("guest-memory-not-mapped", "fault", form("failed to commit memory region")),
)
LOONGARCH: Final[tuple[HostMessage, ...]] = (
    message(
        "loongarch-exception-unknown",
        "guest",
        form("ECode: %d PC=%#lx Inst=0x%08x BadVaddr=%#lx ESTAT=%#lx", "code pc instruction address estat"),
    ),
    message(
        "loongarch-access-refused",
        "guest",
        form("Read not supported Inst=0x%08x @%lx BadVaddr:%#lx", "instruction pc address", access="read"),
        form("Write not supported Inst=0x%08x @%lx BadVaddr:%#lx", "instruction pc address", access="write"),
        form("[%#lx]%s: unsupported gspr instruction 0x%08x", "pc _ instruction"),
        form("Bad IOCSR length: %d, addr is 0x%lx", "size address", access="IOCSR"),
        form("Bad MMIO length: %d, addr is 0x%lx", "size address", access="MMIO"),
    ),
    message(
        "loongarch-csr-refused",
        "guest",
        form("Unsupported csrrd 0x%x with pc %lx", "register pc", access="read"),
        form("Unsupported csrwr 0x%x with pc %lx", "register pc", access="write"),
        form("Unsupported csrxchg 0x%x with pc %lx", "register pc", access="exchange"),
    ),
    message(
        "no-virtualization",
        "refusal",
        form("Hardware virtualization not available"),
    ),
)
MIPS: Final[tuple[HostMessage, ...]] = (
    message("no-virtualization", "refusal", form("KVM does not yet support MMIDs. KVM Disabled")),
    message(
        "mips-exception-unknown",
        "guest",
        form(
            "Exception Code: %d, not yet handled, @ PC: %p, inst: 0x%08x BadVaddr: %#lx Status: %#x",
            "code _ instruction address status",
        ),
        form(
            "Exception Code: %d not handled @ PC: %p, inst: 0x%08x BadVaddr: %#lx Status: %#x",
            "code _ instruction address status",
        ),
        form(
            "Guest Exception Code: %d not yet handled @ PC: %p, inst: 0x%08x Status: %#x", "code _ instruction status"
        ),
    ),
    message(
        "mips-instruction-refused",
        "guest",
        form("[%#lx]%s: unsupported cop0 instruction 0x%08x", "pc _ instruction"),
        form("[%#lx]%s: unsupported lwc2 instruction 0x%08x 0x%08x", "pc _ instruction register"),
        form("lwc2 emulate not impl %d rs %lx @%lx", "operation register pc"),
        form("GPSI exception not supported (%p/%#x)", "_ instruction"),
        form("Handle GSFC, unsupported field change @ %p: %#x", "_ instruction"),
        form("Handle GSFC, unrecognized instruction @ %p: %#x", "_ instruction"),
    ),
    message(
        "mips-access-refused",
        "guest",
        form("Guest Emulate Load from MMIO space failed: PC: %p, BadVaddr: %#lx", "_ address", access="read"),
        form("Guest Emulate Store to MMIO space failed: PC: %p, BadVaddr: %#lx", "_ address", access="write"),
        form("Load not yet supported (inst=0x%08x)", "instruction", access="read"),
        form("Store not yet supported (inst=0x%08x)", "instruction", access="write"),
    ),
)
