"""TDX: kvm-intel.ko (vmx/tdx.c, 6.14 on), the kernel (arch/x86/virt/vmx/tdx, 6.8 on), and what came before it out of
tree.
"""

from __future__ import annotations

from typing import Final

from kvmwhy.readers.kernel_log.host_messages.message import HostMessage, message
from kvmwhy.readers.kernel_log.host_messages.printf import form

MESSAGES: Final[tuple[HostMessage, ...]] = (
    message(
        "seamcall-failed",
        "fault",
        form("SEAMCALL (0x%016llx) failed: 0x%016llx", "leaf status"),  # 6.8 on
        form(
            "SEAMCALL (0x%016llx) failed: 0x%016llx RCX 0x%016llx RDX 0x%016llx", "leaf status rcx rdx"
        ),  # KVM, out of tree
        form("SEAMCALL failed: CPU %d: leaf %llu, error 0x%llx.", "cpu leaf status"),  # 6.5, out of tree
        form("SEAMCALL (%llu) failed: 0x%016llx", "leaf status"),
        form("SEAMCALL (0x%llx) failed: 0x%llx", "leaf status"),
        form("SEAMCALL %s failed: 0x%llx", "name status"),  # KVM, 6.16 on
        form("SEAMCALL[%s] failed: 0x%llx", "name status"),
        form("SEAMCALL leaf 0x%llx failed: 0x%llx", "leaf status"),
        form("TDH_VP_RD[%s.0x%x] failed 0x%llx", "name field status"),
        form("TDH_VP_WR[%s.0x%x]%s0x%llx failed: 0x%llx", "name field _ value status"),
        form("TDH.SYS.DISABLE failed: 0x%016llx", "status", name="TDH.SYS.DISABLE"),
    ),
    message(
        "seamcall-registers",
        "note",
        form("additional output: rcx 0x%llx, rdx 0x%llx, r8 0x%llx, r9 0x%llx", "rcx rdx r8 r9"),
        form("RCX 0x%016llx RDX 0x%016llx R08 0x%016llx", "rcx rdx r8"),
        form("R09 0x%016llx R10 0x%016llx R11 0x%016llx", "r9 r10 r11"),
    ),
    message("tdx-entry-failed", "fault", form("TD vp_enter_ret 0x%llx", "status")),
    message(
        "tdx-key-leaked",
        "fault",
        form("tdh_mng_vpflushdone() failed. HKID %d is leaked.", "hkid"),
        form("tdh_mng_key_freeid() failed. HKID %d is leaked.", "hkid"),
    ),
    message("tdx-access-before-accept", "guest", form("Guest access before accepting 0x%llx on vCPU %d", "gpa vcpu")),
    message(
        "tdx-not-enabled",
        "refusal",
        form("virt/tdx: module initialization failed (%d)", "error"),  # 6.8 to 7.x
        form("TDX-Module initialization failed (%d)", "error"),
        form("TDX module initialization failed (%d)", "error"),
        form("Failed to initialize TDX module."),
        form("virt/tdx: module not loaded"),
        form("SEAMRR not enabled."),
        form("not enabled by BIOS."),
        form("frame pointer (RBP) clobber bug present, upgrade TDX module"),
        form("virt/tdx: initialization failed: %s", "why"),
        form("TDX not supported by the host platform"),
        form("XSAVE is required for TDX"),
        form("MOVDIR64B is required for TDX"),
        form("Self-snoop is required for TDX"),
        form("EPT is required for TDX"),
        form("TDP MMU and MMIO caching and EPT A/D bit is required for TDX"),
        form("APICv is required for TDX"),
        form("tdx: OSXSAVE is required for TDX"),
        form("Disable TDX: MAX_VCPU_PER_TD (%u) smaller than number of logical CPUs (%u).", "limit cpus"),
        form("MSR %x isn't included by kvm_find_user_return_msr", "msr"),
    ),
    message("tdx-cpu-unfit", "fault", form("SEAM: CPU doesn't support EPT violation #VE")),
    message("tdx-key-range", "note", form("BIOS enabled: private KeyID range [%u, %u)", "first end")),
    message(
        "tdx-module",
        "note",
        form(
            "TDX module: attributes 0x%x, vendor_id 0x%x, major_version %u, minor_version %u, build_date %u,",
            "attributes vendor major minor date",
        ),
        form("virt/tdx: module initialized"),
        form("TDX-Module initialized"),
        form("%lu KB allocated for PAMT", "kilobytes"),
        form("CMR: [0x%llx, 0x%llx)", "start end"),
    ),
)
