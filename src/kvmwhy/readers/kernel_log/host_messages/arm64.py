"""Messages of KVM on arm64: arch/arm64/kvm, and before 5.7 arch/arm/kvm and virt/kvm/arm."""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

MESSAGES: Final[tuple[HostMessage, ...]] = (
    message(
        "sysreg-refused",
        "guest",
        form("Unsupported guest sys_reg access at: %lx [%08lx]", "pc pstate"),  # 5.6 on
        form("Unsupported guest sys_reg access at: %lx", "pc"),
        form("Unsupported guest %s access at: %08lx [%08lx]", "coprocessor pc pstate"),  # CP14, CP15 of 32-bit guests
        form("Unsupported guest %s access at: %08lx", "coprocessor pc"),
        form("Unhandled cp10 register %s: %u", "register number"),
    ),
    message(
        "sysreg-encoding",
        "note",
        form("{ Op0(%2u), Op1(%2u), CRn(%2u), CRm(%2u), Op2(%2u), func_%s }", "op0 op1 crn crm op2 access"),
        form("{ CRn(%2u), CRm(%2u), Op1(%2u), Op2(%2u), is64: %s, func_%s }", "crn crm op1 op2 _ access"),
    ),
    message(
        "access-without-syndrome",
        "guest",
        form("Data abort outside memslots with no valid syndrome info"),  # 5.5 to 6.6
        form("load/store instruction decoding not implemented"),  # until 5.4
        form("Unable to decode data abort"),  # arch/arm/kvm: mmio.c of 3.x
    ),
    message(
        "abort-not-handled",
        "fault",
        form("Unsupported FSC: EC=%#x xFSC=%#lx ESR_EL2=%#lx", "ec fsc esr"),
        form("Unsupported fault status: EC=%#x DFCS=%#lx", "ec fsc"),
        form("Unexpected L2 read permission error"),
    ),
    message("host-memory-missing", "fault", form("Failed to find VMA for hva 0x%lx", "hva")),
    message(
        "exception-class-unknown",
        "guest",
        form("Unknown exception class: esr: %#016llx -- %s", "esr name"),
        form("Unknown exception class: hsr: %#08x -- %s", "esr name"),
        form("Unknown exception class: hsr: %#08x", "esr"),
    ),
    message(
        "exception-type-unknown",
        "fault",
        form("Unsupported exception type: %d", "type"),
        form("Unsupported exception type: %x", "type"),
    ),
    message("smccc-unknown", "guest", form("Unhandled SMCCC filter action: %d", "action")),
    message(
        "hyp-panic",
        "fault",
        form("nVHE hyp %s at: [<%016llx>] %pB!", "what address function"),
        form("nVHE hyp %s at: %016llx!", "what address"),
        form("nVHE hyp %s at: %s:%u!", "what path line"),
        form("Kernel panic - not syncing: HYP panic:", what="panic"),
        form("HYP panic: PS:%08llx PC:%016llx ESR:%016llx", "ps pc esr", what="panic"),
        form("Invalid host exception to nVHE hyp!", what="host exception"),
    ),
    message(
        "hyp-panic-state",
        "note",
        form("PS:%08llx PC:%016llx ESR:%016llx", "ps pc esr"),
        form("FAR:%016llx HPFAR:%016llx PAR:%016llx", "far hpfar par"),
        form("VCPU:%016lx", "running_vcpu"),
        form("Hyp Offset: 0x%llx", "offset"),
        form("nVHE call trace:"),
        form("nVHE HYP call trace:"),
        form("---[ end nVHE %s ]---"),
    ),
    message(
        "no-virtualization",
        "refusal",
        form("HYP mode not available"),
        form("KVM disabled from command line"),
        form("Error, CPU %d not supported!", "cpu"),  # until 5.6
        form("Target CPU not supported!"),
        form("PAGE_SIZE not supported at Stage-2, giving up"),
        form("Unsupported value for TGRAN_2, giving up"),
        form("KVM is not available. Ignoring kvm-arm.mode"),
        form("NV support requires GICv3%s", "_"),
        form("error initializing Hyp mode: %d", "error"),
        form("GICv2 not supported in protected mode"),
        form("GICH not present in the firmware table"),
        form("No vgic maintenance irq"),
    ),
    message(
        "kvm-mode",
        "note",
        form("%s mode initialized successfully", "mode"),
        form("IPA Size Limit: %d bits", "bits"),
        form("GIC system register CPU interface enabled"),
        form("vgic interrupt IRQ%d", "irq"),
        form("GICv3: no GICV resource entry"),
        form("disabling GICv2 emulation"),
        form("Reserved %lld MiB at 0x%llx", "megabytes address"),
    ),
    message(
        "protected-mode-failed",
        "fault",
        form("Failed to finalize Hyp protection: %d", "error"),
        form("Cannot initialize protected mode without PSCI"),
        form("Failed to init hyp memory protection"),
        form("Failed to reserve hyp memory"),
        form("Failed to register hyp memblocks: %d", "error"),
        form("Protected KVM not available with VHE"),
        form("Cannot dump pKVM nVHE stacktrace: !CONFIG_PKVM_STACKTRACE"),
    ),
    message(
        "timer-odd",
        "fault",
        form("Invalid trigger for timer IRQ%d, assuming level low", "irq"),
        form("kvm_arch_timer: %s", "text"),
        form("Broken CNTVOFF_EL2, trapping virtual timer"),
        form("Invalid trigger for IRQ%d, assuming level low", "irq"),
    ),
    message("guest-not-trusted", "note", form("Guests without required CPU erratum workarounds can deadlock system!")),
    message("sve-limited", "note", form("SVE vector length for guests limited to %u bytes", "bytes")),
)
