"""What a text must hold for a reader to be worth loading: looked for before the reader is imported."""

from __future__ import annotations

from typing import Final

KERNEL_LOG: Final = (
    # Dumps, of which any few lines may be all that was posted.
    "last attempted VM-entry on CPU", "last attempted VMRUN on CPU", "*** Guest State ***", "*** Host State ***",
    "*** Control State ***",
    "VMCB Control Area", "VMCB State Save Area", "Virtual Machine Save Area (VMSA)",
    " sel=0x", ": actual=0x", "PDPTR0 = ", "PDPTR2 = ", "Sysenter RSP=", "DebugExceptions = ", "ActivityState = ",
    "InterruptStatus = ",
    "FSBase=", "GDTBase=", "CPUBased=", "EntryControls=", "ExceptionBitmap=", "VMEntry: intr_info=",
    "VMExit: intr_info=", "qualification=",
    "IDTVectoring: info=", "TSC Offset = 0x", "APIC-access addr = 0x", "EPT pointer = 0x", "PLE Gap=",
    "Virtual processor ID = 0x",
    "cr_read: ", "cr_write: ", "dr_read: ", "dr_write: ", "exit_code: ", "pause filter ", "msrpm_base_pa: ",
    "tlb_ctl: ", "exit_info1: ", "exit_int_info: ", "nested_ctl: ", "misc_ctl: ", "nested_cr3: ",
    "event_inj: ", "virt_ext: ", "avic_backing_page: ", " s: 0000 a: ", "es:   s: ", "cs:   s: ", "ss:   s: ",
    "ds:   s: ", "tr:   s: ", "avic_logical_id: ", " rbx:  ", " rdx:  ", " rdi:  ", " r11:  ", " r13:  ", " r15:  ",
    " r9:  ", "_sev_features:", " cr4:  ", " dr7:  ",
    " rflags:  ", "lstar:  ", "tsc_offset:  ", "exceptions:  ", "int_ctl:  ", "kernel_gs_base: ", "sfmask: ",
    "excp_from: ",
    # What KVM says of itself.
    "unexpected exit reason 0x", ".dump_invalid_vmc", "EPT: Misconfiguration", "EPT: Handling EPT violation",
    "EVMCS field", "vmread f", "vmread error",
    "vmwrite f", "vmwrite error", "vmptrld ", "vmclear f", "invept failed", "invvpid failed", "VMXON faulted",
    "nested vmx abort", "reserved bits",
    "Unexpected RMP fault", "RMPUPDATE failed", "RMP entry", "SEAMCALL ", "vp_enter_ret", "SEAM: CPU", "vmgexit: ",
    "requested termination", "hyp panic", "hyp BUG", "HYP panic",
    "Unsupported guest ", "valid syndrome info", "instruction decoding not implemented", "Unsupported FSC",
    "VCPU exit error", "KVM trap in HV", "Couldn't emulate instruction", "emulation at ",
    "hcall failed", "unhandled validity", "exchange as write", "emulated as NOP", "nhandled rdmsr",
    "nhandled wrmsr", "Unhandled RDMSR", "Unhandled WRMSR", "ignored rdmsr", "ignored wrmsr",
    "MSR access error", "Invalid MSR ", "Unexpected #VE",
    "mmap_huge_fault(", "KVM: Got ", "Failed to find VMA for hva", "Bad page state", "Memory failure: ",
    "IO_PAGE_FAULT", "[fault reason ", "ms after ", "Killed process ", "blocked for more than ", "soft lockup - ",
    "RMP table", "WARNING: CPU: ", "failed to INIT",
    "BUG: unable to handle", "BUG: kernel NULL pointer", "kernel BUG at ", "split_lock trap",
    # A report of the kernel's that names KVM.
    "arch/x86/kvm/", "virt/kvm/", "kvm_host.h", "entry-kvm.h", "[kvm]", "[kvm_intel]", "[kvm_amd]",
    "kvm_vcpu_ioctl", "kvm_spurious_fault",
)  # fmt: skip
TRACE: Final = (
    "kvm_emulate_insn:",
    "kvm_userspace_exit:",
    "kvm_exit:",
    "kvm_entry:",
    "kvm_exit(",
    "kvm_run_exit cpu_index",
)
ILLUMOS: Final = ("efail-1",)
WORDS: Final = ("data[", "suberror", "Suberror", "uberror:")

# Where a big input is searched, and no line is one of QEMU's announcements.
# A dump without its announcement; the lines of other VMMs; a host's kernel; traces; records of kvmwhy.
LOOSE: Final = (
    b"EFER=",
    b"kvm_run returned",
    b"VMCB State Save Area",
    b"INTERNAL_ERROR",
    b"nternalError",
    b"suberror",
    b"entry_failure_reason",
    b"FailEntry",
    b"FAIL_ENTRY",
    b"ExitInternalError",
    b"UnhandledKvmExit",
    b"hw run failure",
    b"vm entry failed",
    b"KVM exit reason: ",
    b"KVM exit code: ",
    b"unknown kvm exit reason",
    b"KVM_CREATE_VM",
    b"o create VM",
    b"o initialize KVM",
    b"o initialize kvm",
    b"reating the KVM object",
    b"reating the Kvm object",
    b"CreateVm(",
    b"KVM_RUN",
    b"vcpu run",
    b"o run v",
    b"o run the v",
    b"VcpuRun(",
    b"VCPU error",
    b"vcpu hit unknown",
    b"*** Guest State ***",
    b"VMCB Control Area",
    b"last attempted VM",
    b"unexpected exit reason 0x",
    b".dump_invalid_vmc",
    b"EPT: Misconfiguration",
    b"kvm_emulate_insn: ",
    b"efail-2",
    b'{"schema":',
    b'{"schema" :',
)
