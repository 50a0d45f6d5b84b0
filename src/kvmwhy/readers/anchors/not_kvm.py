"""Hypervisors and emulators that are not KVM: what their lines about a failure hold."""

from __future__ import annotations

from typing import Final

from kvmwhy.ingest.anchors import Anchor, Declared

TEXTS: Final = (
    "(XEN)", "ailed vm entry", "domain_crash called", "crashed on cpu#", "VMEntry: intr_info", "Xen-", "haxm_panic",
    "haxm_error", "instr[0..", "VCPU shutdown request", "hax ", "HAX", "hax_", "Failed to emulate instruction",
    "bhyve", "vm_run error", "vm exit[", "exit_reason", "qualification", "inst_error", "VMCS_PIN_BASED_CTLS",
    "hyperkit", "xhyve", "hv_v", "HV_ERROR", "HV_B", "HV_NO_", "HV_DENIED", "HV_UNSUPPORTED", "HV_ILLEGAL",
    "VM-entry failure exit reason", "initialize hvf", "function hvf_", "initialize HVF", "-accel hvf", "WHPX:", "WHv",
    "initialize whpx", "initialize WHPX", "VP exit code", "Guru Meditation", "VERR_", "TRAP=", "MONITOR PANIC",
    "unrecoverable error", "power on failed", "not supported on this platform", "Hyper-V-",
    "virtual processor that caused", "MSHV_", "mshv", "outside RAM or ROM", ": fatal: ", "hardware error: ",
    "unhandled CPU exception", "uncaught target signal", "CCS=", ": v=", "check_exception old", "(UC_ERR_",
    "ypervisor: Gunyah", "/dev/gunyah", "ypervisor gunyah", "ypervisor=gunyah", "gunyah_vm_mgr", "GUNYAH_ERROR_",
    "ypervisor: Geniezone", "ypervisor geniezone", "ypervisor=geniezone", "/dev/gzvm",
    "with no resolution", "[CPU", "[NoirVisor]", "Kernel panic - not syncing", "This host supports", "vmkernel: cpu",
    "the hypervisor is not running", "WSL2 is", "WSL 2 is", "HCS_E_HYPERV", "VZErrorDomain", "VmSetup(VmCreate)",
    "vcpu_run_vmx: ", "vcpu_run_svm: ",
    "_handle_exit: ", "vmx_fault_page: ", "vmx_enter_guest: ", "FATAL: VM-Entry failure",
    "FATAL: Unhandled VM-Exit", "FATAL: vmresume failed", "FATAL: Unexpected #VMEXIT", "Parking CPU ",
    "exit condition from guest", "could not create VCPU", "VMLAUNCH", "VMRESUME",
    "vmlaunch failed", "vmlaunch error", "vmresume failed", "vmresume error", "vmx_init: ", "nhandled VM-",
    "CPUM state: ", "haxm_warning", "{cpum", "triple fault at ",
    "NHANDLED VM", "nknown VM-", "Failed to handle vmexit", "Failed to handle VMEXIT", "Failed to enter VM, reason",
)  # fmt: skip
# A log that tells of KVM's failures, too, is not read for another hypervisor's words alone.
ANCHORS: Final[Declared] = tuple(Anchor(text, weak=True) for text in TEXTS)
