"""What a text must hold for a reader to be worth loading: looked for before the reader is imported."""

from __future__ import annotations

from typing import Final

VMM_LINE: Final = (
    "INTERNAL_ERROR",
    "nternalError",
    "suberror",
    "entry_failure_reason",
    "FailEntry(",
    "KVM_EXIT_FAIL_ENTRY",
    "hw run failure",
    "vm entry failed",
    "FAIL_ENTRY:",
    "KVM exit reason:",
    "unknown kvm exit reason",
    "UnhandledKvmExit",
    "resource busy",
    "EBUSY",
    "rror(16)",
    "error 16",
    "KVM_RUN",
    "vcpu run",
    "o run v",
    "o run the v",
    "VcpuRun(",
    "VCPU error",
    "vcpu hit unknown",
)
KERNEL_LOG: Final = (
    "last attempted VM-entry on CPU",
    "last attempted VMRUN on CPU",
    "*** Guest State ***",
    "VMCB Control Area",
    "VMCB State Save Area",
    "unexpected exit reason 0x",
    ".dump_invalid_vmc",
    "EPT: Misconfiguration",
    " sel=0x",
    "EntryControls=",
    "EVMCS field",
    "vmread f",
    "vmwrite f",
    "vmwrite error",
    "vmptrld ",
    "vmclear f",
    "arch/x86/kvm/",
    "virt/kvm/",
)
TRACE: Final = ("kvm_emulate_insn:", "kvm_userspace_exit:")
ILLUMOS: Final = ("efail-1",)
WORDS: Final = ("data[",)
