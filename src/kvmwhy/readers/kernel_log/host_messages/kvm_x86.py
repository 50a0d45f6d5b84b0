"""Messages of kvm.ko on x86: arch/x86/kvm (x86.c, emulate.c, mmu/, hyperv.c, lapic.c, i8254.c) and virt/kvm.

The remarks say which kernels print a format; without one, all that were looked at (2.6.32 to 7.3).
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

MESSAGES: Final[tuple[HostMessage, ...]] = (
    message(
        "msr-unhandled",
        "guest",
        form("unhandled rdmsr: 0x%x data 0x%llx", "msr value", access="read"),  # 4.15 to 5.9
        form("unhandled rdmsr: 0x%x", "msr", access="read"),  # until 4.14
        form("unhandled wrmsr: 0x%x data 0x%llx", "msr value", access="write"),  # until 5.9
        form("unhandled wrmsr: 0x%x data %llx", "msr value", access="write"),  # until 4.14
        form("unhandled wrmsr: 0x%x", "msr", access="write"),
        form("unhandled %s: 0x%x data 0x%llx", "access msr value"),  # 5.8 on: rdmsr or wrmsr
        form("Unhandled RDMSR(0x%x)", "msr", access="read"),  # 6.1 on
        form("Unhandled WRMSR(0x%x) = 0x%llx", "msr value", access="write"),  # 6.1 on
        form("unimplemented wrmsr: 0x%x data 0x%llx", "msr value", access="write"),
        form("unimplemented perfctr wrmsr: 0x%x data 0x%llx", "msr value", access="write"),  # until 3.x
        form("unimplemented HWCR wrmsr: 0x%llx", "value", access="write", msr=0xC0010015),
        form("unimplemented MMIO_CONF_BASE wrmsr: 0x%llx", "value", access="write", msr=0xC0010058),
        form("Hyper-V unhandled rdmsr: 0x%x", "msr", access="read"),
        form("Hyper-V unhandled wrmsr: 0x%x data 0x%llx", "msr value", access="write"),
        form("Hyper-V uhandled wrmsr: 0x%x data 0x%llx", "msr value", access="write"),  # until 5.x, spelt so
        form("%s: MSR_IA32_DEBUGCTLMSR 0x%llx, nop", "_ value", access="write", msr=0x1D9),
        form("%s: MSR_IA32_DEBUGCTL 0x%llx, nop", "_ value", access="write", msr=0x1D9),
    ),
    message(
        "msr-ignored",
        "guest",
        form("ignored rdmsr: 0x%x data 0x%llx", "msr value", access="read"),
        form("ignored rdmsr: 0x%x", "msr", access="read"),
        form("ignored wrmsr: 0x%x data 0x%llx", "msr value", access="write"),
        form("ignored wrmsr: 0x%x data %llx", "msr value", access="write"),
        form("ignored %s: 0x%x data 0x%llx", "access msr value"),
        form("disabled perfctr wrmsr: 0x%x data 0x%llx", "msr value", access="write"),
        form("Can't set EOI MSR value: 0x%llx", "value", access="write"),
    ),
    message(
        "ignore-msrs",
        "note",
        form("Running KVM with ignore_msrs=%d and report_ignored_msrs=%d is not a", "ignore report"),
    ),
    message(
        "control-register-unhandled",
        "guest",
        form("unhandled control register: op %d cr %d", "op cr"),
        form("%s: unexpected cr %u", "_ cr"),
    ),
    message("exchange-as-write", "guest", form("emulating exchange as write")),
    message("instruction-as-nop", "guest", form("%s instruction emulated as NOP!", "instruction")),
    message("apic-base-moved", "guest", form("APIC base relocation is unsupported by KVM")),
    message("apic-access-odd", "guest", form("Local APIC read with len = %x, should be 1,2, or 4 instead", "size")),
    message("far-call-tainted", "guest", form("faulting far call emulation tainted memory")),
    message(
        "unexpected-exit",
        "fault",
        form("vmx: unexpected exit reason 0x%x", "reason", isa="vmx"),  # 3.18 to 6.18
        form("svm: unexpected exit reason 0x%llx", "reason", isa="svm"),  # until 6.18
        form("unexpected exit reason 0x%llx", "reason"),  # 6.19 on, from kvm.ko
    ),
    message("private-memory-emulation", "fault", form("unexpected emulation request on private memory")),
    message("hyperv-crash", "note", form("hv crash (0x%llx 0x%llx 0x%llx 0x%llx 0x%llx)", "p0 p1 p2 p3 p4")),
    message("hyperv-reset", "note", form("hyper-v reset requested")),
    message(
        "spte-reserved-bits",
        "fault",
        form("%s: reserved bits set on MMU-present spte, addr 0x%llx, hierarchy:", "_ gpa"),  # 5.11 on
        form("%s: detect reserved bits on spte, addr 0x%llx, dump hierarchy:", "_ gpa"),  # 4.3 to 5.10
    ),
    message(
        "spte",
        "note",
        form("------ spte = 0x%llx level = %d, rsvd bits = 0x%llx", "spte level reserved"),
        form("------ spte 0x%llx level %d.", "spte level"),
        form("spte = 0x%llx, level = %d, rsvd bits = 0x%llx", "spte level reserved"),
        form("ept_misconfig_inspect_spte: spte 0x%llx level %d", "spte level"),  # until 4.2
    ),
    message("ept-misconfig", "fault", form("EPT: Misconfiguration.")),  # until 4.2
    message("ept-misconfig-gpa", "note", form("EPT: GPA: 0x%llx", "gpa")),
    message("ept-misconfig-bits", "note", form("ept_misconfig_inspect_spte: rsvd_bits = 0x%llx", "reserved")),
    message("ept-misconfig-type", "note", form("ept_misconfig_inspect_spte: ept_mem_type=0x%llx", "type")),
    message(
        "ept-walk-failed",
        "fault",
        form("EPT: Handling EPT violation failed!"),  # 2.6.28 to 2.6.36
    ),
    message(
        "ept-not-mapped",
        "note",
        form("EPT: GPA: 0x%lx, GVA: 0x%lx", "gpa gva"),
        form("EPT: Exit qualification is 0x%lx", "qualification"),
    ),
    message(
        "spte-writable-odd",
        "fault",
        form("kvm: Writable SPTE is not MMU-writable: %llx", "spte"),
        form("kvm: MMU-writable SPTE is not Host-writable: %llx", "spte"),
    ),
    message("apic-map-dirty", "fault", form("Dirty APIC map without an in-kernel local APIC")),
    message(
        "spte-change-invalid",
        "fault",
        form("Invalid SPTE change: cannot replace a present leaf"),
        form("Unexpected SPTE change! Nonpresent SPTEs"),
    ),
    message("tdp-root-bad", "fault", form("Bad TDP root level = %d", "level")),
    message(
        "mmu-page-mismatch",
        "fault",
        form("gfn mismatch under %s page %llx (expected %llx, got %llx)", "role gfn expected got"),
        form("access mismatch under %s page %llx (expected %u, got %u)", "role gfn expected got"),
    ),
    message(
        "rmap-broken",
        "fault",
        form("%s: %p 0->BUG"),
        form("%s:  %p 1->BUG"),
        form("%s: %p many->many"),
        form("rmap_remove: %p %llx 0->BUG"),
        form("rmap_remove:  %p %llx 1->BUG"),
    ),
    message("fast-page-fault-loops", "fault", form("Fast #PF retrying more than 4 times.")),
    message("mmio-generation-wraps", "note", form("zapping shadow pages for mmio generation wraparound")),
    message(
        "guest-memory-not-prepared",
        "fault",
        form("gmem: Failed to prepare folio for index %lx GFN %llx PFN %llx error %d.", "index gfn pfn error"),
    ),
    message(
        "virtualization-off",
        "refusal",
        form("disabled by bios"),  # until 5.19
        form("support for '%s' disabled by bios", "module"),  # 6.0 to 6.2
    ),
    message(
        "no-virtualization",
        "refusal",
        form("no hardware support for '%s'", "module"),  # 6.0 to 6.2
        form("no hardware support"),  # until 5.19
    ),
    message("virtualization-not-enabled", "refusal", form("enabling virtualization on CPU%d failed", "cpu")),
    message("virtualization-given-up", "note", form("exiting hardware virtualization")),
    message(
        "other-module-loaded",
        "refusal",
        form("already loaded vendor module '%s'", "module"),
        form("already loaded the other module"),
    ),
    message("host-pat", "refusal", form("host PAT[0] is not WB")),
    message(
        "kvm-not-loaded",
        "refusal",
        form("failed to allocate cache for x86 emulator"),
        form("failed to allocate cache for x86 fpu"),
        form("failed to allocate percpu kvm_user_return_msrs"),
        form("failed to allocate percpu user_return_msrs"),
        form("misc device register failed"),
    ),
    message(
        "vcpu-not-created",
        "refusal",
        form("failed to allocate userspace's fpu"),
        form("failed to allocate vcpu's fpu"),
        form("failed to allocate vcpu's emulator"),
        form("malloc apic regs error for vcpu %x", "vcpu"),
    ),
    message("tsc-unstable", "note", form("SMP vm created on host with unstable TSC; guest TSC will not be reliable")),
    message(
        "tsc-rate",
        "note",
        form("requested TSC rate %u falls outside tolerance [%u,%u]", "rate low high"),
        form("user requested TSC rate below hardware speed"),
        form("Invalid TSC scaling ratio - virtual-tsc-khz=%u", "rate"),
    ),
    message(
        "timer-limited",
        "note",
        form("vcpu %i: requested %lld ns lapic timer period limited to %lld ns", "vcpu asked given"),
        form(
            "vcpu %i: requested lapic timer restore with starting count register %#x=%u (%lld ns)",
            "vcpu",
        ),
        form("requested %lld ns i8254 timer period limited to %lld ns", "asked given"),
    ),
    message("pmu-event", "note", form("kvm_pmu: event creation failed %ld for pmc->idx = %d", "error pmc")),
    message(
        "vpmu-not-enabled",
        "refusal",
        form("Failed to enable mediated vPMU, try disabling system wide perf events and nmi_watchdog."),
    ),
    message("windows-xsavec", "note", form("Booting SMP Windows KVM VM with !XSAVES && XSAVEC.")),
    message(
        "smt-vulnerable",
        "note",
        form("This processor is affected by the Cross-Thread Return Predictions vulnerability."),
    ),
    message("smt-l1tf", "note", form("L1TF CPU bug present and %s, data leak possible.", "why")),
    message("irq-bypass", "note", form("irq bypass %s (%s %p) %s fails: %d", "side _ _ what error")),
    message(
        "irq-stuck",
        "fault",
        form("Disabled LAPIC found during irq injection"),
        form("IRQ source ID out of range!"),
        form("exhausted allocatable IRQ sources!"),
        form("exhaust allocatable IRQ sources!"),
    ),
    message("vm-worker-cgroup", "note", form("%s: cgroup_attach_task_all failed with err %d", "_ error")),
    message("bus-removed", "fault", form("failed to shrink bus, removing it completely")),
    message("async-page-fault", "fault", form("Unexpected host async PF flags: %x", "flags")),
    message(
        "access-tracking-bits",
        "fault",
        form("Access Tracking saved bit locations are not zero"),
        form("Writable SPTE is not locklessly dirty-trackable"),
    ),
    message("nx-removed", "note", form("guest NX capability removed")),
)
