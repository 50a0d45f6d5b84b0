"""A host's kernel log: control blocks that KVM dumps, what KVM says of itself, and the kernel's own trouble."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Declared

ANCHORS: Final[Declared] = (
    # Dumps, of which any few lines may be all that was posted.
    "last attempted VM-entry on CPU", "last attempted VMRUN on CPU", "*** Guest State ***", "*** Host State ***",
    "*** Control State ***",
    "VMCB Control Area", "VMCB State Save Area", "Virtual Machine Save Area (VMSA)",
    "sel=0x", ": actual=0x", "PDPTR0 = ", "PDPTR2 = ", "Sysenter RSP=", "DebugExceptions = ", "ActivityState = ",
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
    "disabled perfctr", "unimplemented wrmsr", "unimplemented perfctr", "unimplemented HWCR", "uhandled wrmsr",
    "unimplemented MMIO_CONF_BASE", ": MSR_IA32_DEBUGCTL", "set EOI MSR", "base relocation is unsupported",
    "faulting far call", "SPTE is not", "Dirty APIC map", "Invalid SPTE change", "Unexpected SPTE change",
    "Bad TDP root", "0->BUG", "1->BUG", "many->many", "rmap_remove: ", "Fast #PF retrying", "gmem: ",
    "Disabled LAPIC found", "IRQ source ID out", "allocatable IRQ sources", "failed to shrink bus",
    "Unexpected host async PF", "APIC-access address in vmcs12",
    "msr_autostore", "NMI-blocked state on VCPU", "KVM_SET_TSS_ADDR need", "own CR0.TS", "owns CR0.TS",
    "Invalid local APIC state", "unexpected VM-Exit interrupt", "Wakeup handler not enabled",
    "posted-interrupts is set", "descriptor SN field", "PI IRTE", "ENCLS[", "SGX enclave VM-Exit",
    "triggered AMD Erratum", "IPI interception", "LBRV must be", "rmpupdate",
    "Leaking PFN", "split direct map", "SEV-SNP: PSC: ", "SEAMCALL[", "TDH_VP_",
    "TDH.SYS.DISABLE failed", "() failed. HKID", "access before accepting", "(,order", "RMP_PAGE_FAULT", "RMP_HW_ERROR",
    "ILLEGAL_DEV_TABLE", "DEV_TAB_HARDWARE", "PAGE_TAB_HARDWARE", "IOTLB_INV", "INVALID_DEVICE_REQUEST",
    "VT-d detected Invalidation", "Unhandled cp10", "Unsupported fault status",
    "Unexpected L2 read", "Unknown exception class", "Unsupported exception type", "Unhandled SMCCC filter",
    "nVHE hyp", "without PSCI",
    "KVM not available with VHE", "in G-stage", "G-stage cache", "split page cache", "Invalid VMA page size",
    "| msr=0x", "MMIO emulation failed", "using unsupported instruction", "KVM: invalid SPR", "mtspr: unknown",
    "mfspr: unknown", "Run VCPU invalid", "KVM-NESTEDv2: ", "kvm-hv: ", "grab cpu ", "run stopped vcpu",
    "kvm_arch_vcpu_ioctl", "SEV: ", "SEV-SNP: ", "SNP ", "sev command ",
    "Secure storage violation", "protvirt destroy", "guest machine check pid", "notification intercept for UVC",
    "Unexpected program interrupt", "BadVaddr", "unsupported gspr instruction", "Unsupported csr", "handled @ PC",
    "handled, @ PC", "yet handled @", "not yet supported (inst",
    "MSR access error", "Invalid MSR ", "Unexpected #VE",
    "mmap_huge_fault(", "KVM: Got ", "Failed to find VMA for hva", "Bad page state", "Memory failure: ",
    "IO_PAGE_FAULT", "[fault reason ", "ms after ", "Killed process ", "blocked for more than ", "soft lockup - ",
    "RMP table", "WARNING: CPU: ", "failed to INIT", "odule initialization failed", "initialize TDX module",
    "BUG: unable to handle", "BUG: kernel NULL pointer", "kernel BUG at ", "split_lock trap",
    # A report of the kernel's that names KVM.
    "arch/x86/kvm/", "virt/kvm/", "kvm_host.h", "entry-kvm.h", "[kvm]", "[kvm_intel]", "[kvm_amd]",
    "kvm_vcpu_ioctl", "kvm_spurious_fault", "Comm: qemu", "Comm: CPU ", "Comm: kvm",
)  # fmt: skip
