"""Messages of kvm-amd.ko, but for the dumps and for SEV: arch/x86/kvm/svm (svm.c, avic.c, nested.c)."""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

MESSAGES: Final[tuple[HostMessage, ...]] = (
    message("vmcb-dump-off", "note", form("set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.")),
    message(
        "nested-paging",
        "note",
        form("Nested Paging %s", "state"),
        form("Nested Virtualization enabled", state="virtualization"),
    ),
    message(
        "virtualization-off",
        "refusal",
        form("KVM is unsupported when running as an SEV guest"),
        form("SVM disabled (by BIOS) in MSR_VM_CR"),  # svm.c: svm_check_processor_compat and before it is_disabled
        form("SVM disabled (by BIOS) in MSR_VM_CR on CPU %d", "cpu"),
    ),
    message(
        "no-virtualization",
        "refusal",
        form("has_svm: %s", "why"),  # 2.6.2x to 5.x: "not amd or hygon", "svm not available"
        form("%s: err EOPNOTSUPP on %d", "_ cpu"),  # svm_hardware_enable of a CPU without SVM
        form("%s: svm_data is NULL on %d", "_ cpu"),
        form("CPU %d isn't AMD or Hygon", "cpu"),
        form("SVM not supported by CPU %d", "cpu"),
    ),
    message(
        "erratum-383", "fault", form("KVM: Guest triggered AMD Erratum 383"), form("Guest triggered AMD Erratum 383")
    ),
    message(
        "sev-erratum-1096",
        "fault",
        form("KVM: SEV Guest triggered AMD Erratum 1096"),
        form("SEV Guest triggered AMD Erratum 1096"),
    ),
    message(
        "avic-ipi-unknown", "fault", form("Unknown avic incomplete IPI interception"), form("Unknown IPI interception")
    ),
    message("avic-page", "fault", form("Invalid backing page")),
    message(
        "avic-off",
        "note",
        form("AVIC disabled: missing HvInUseWrAllowed on SNP-enabled system"),
        form("[Firmware Bug]: Cannot enable x2AVIC, AVIC is unsupported"),
        form("[Firmware Bug]: Cannot support x2AVIC due to AVIC is disabled"),
        form("[Firmware Bug]: Try enable AVIC using force_avic option"),
    ),
    message(
        "avic-forced",
        "note",
        form("AVIC unsupported in CPUID but force enabled, your system might crash and burn"),
        form("AVIC is not supported in CPUID but force enabled"),
        form("Your system might crash and burn"),
    ),
    message(
        "control-register-unhandled",
        "guest",
        form("unhandled read from CR%d", "cr"),
        form("unhandled write to CR%d", "cr"),
        form("unhandled CR%d write trap", "cr"),
    ),
    message("trap-read", "fault", form("svm: Handling trap read.")),
    message("lbrv-missing", "fault", form("LBRV must be present for SEV-ES support")),
)
