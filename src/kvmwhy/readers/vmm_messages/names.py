"""By what a text names the VMM that printed it, and what stands before that VMM's messages."""

from __future__ import annotations

import re
from typing import Final

# In the order in which a line is asked; the first that is named has printed it.
_NAMED_BY: Final = tuple(
    (name, re.compile(pattern, re.MULTILINE))
    for name, pattern in (
        (
            "cloud-hypervisor",
            (
                r"cloud-hypervisor|VCPU generated error|(?<!src/)vmm/src/cpu\.rs"
                r"|hypervisor/src/kvm/mod\.rs:[0-9]{1,5} --|Guest likely triple-faulted"
            ),
        ),
        (
            "crosvm",
            r"crosvm|unexpected vcpu exit:|vcpu hw run failure|vcpu hit unknown error|unknown kvm exit reason: [0-9]",
        ),
        ("dragonball", r"dragonball|KVM_EXIT_FAIL_ENTRY signal, reason"),
        ("libkrun", r"krun|vmm::linux::vstate|KVM_EXIT_FAIL_ENTRY signal: reason=|KVM_EXIT_MEMORY_FAULT: Unknown flag"),
        (
            "firecracker",
            (
                r"[Ff]irecracker|fc_vcpu|anonymous-instance|src/vmm/src|vstate/vcpu|RunWithoutApiError"
                r"|KVM_EXIT_FAIL_ENTRY signal: [0-9]{1,20} on cpu|Received ENOSYS error because KVM"
            ),
        ),
        (
            "stratovirt",
            (
                r"[Ss]trato[Vv]irt|[Vv]cpu[0-9]{1,4} received (?:an )?(?:KVM_EXIT|KVM_SYSTEM|unexpected)"
                r"|CPU [0-9]{1,4} received an un(?:expected|handled) exit"
            ),
        ),
        ("openvmm", r"openvmm|hvlite|virt_kvm|\bvp\{index=|VP entry failed"),
        ("hyperlight", r"[Hh]yperlight|Unknown KVM VCPU exit|Unexpected KVM Exit [A-Z]"),
        ("uhyve", r"[Uu]hyve|[Hh]ermit|kvm_cpu\.rs|VcpuExitFailEntry|\bCPU [0-9]{1,4} crashed with|^proxy: "),
        ("opendcdiag", r"opendcdiag|sandstone|KVM exit reason: KVM_EXIT_|^Register dump:$"),
        ("kvmtool", r"KVM exit (?:reason: [0-9]{1,3} \(\"|code: )|\blkvm\b|kvmtool"),
        ("solo5", r"solo5|ukvm|KVM: entry failure: hw_entry_failure_reason=|KVM: internal error exit: suberror"),
        ("dosemu2", r"dosemu|leavedos|^ERROR: KVM(?:_EXIT_[A-Z_]{8,14}: (?:hardware_entry|suberror)|:)"),
        (
            "gvisor",
            (
                r"gvisor|platform/kvm|runsc|unexpected [a-zA-Z_/]{2,16} exit: {1,2}[0-9a-f]{16}"
                r"|host out of (?:memory|MMU pages)$"
            ),
        ),
        ("km", r"^km: |kontain|== KVM_GET_S?REGS =="),
        ("gokvm", r"gokvm|kvm exit reason: EXIT[A-Z]"),
        ("enarx", r"enarx"),
        ("virtualbox", r"\bNEM(?:/[0-9]{1,3})?: |VBox"),
        (
            "kvm selftests",
            r"Test Assertion Failure|Wanted KVM exit reason|Invalid guest sync status|selftests/kvm",
        ),
        ("kvm-unit-tests", r"Unhandled (?:cpu )?exception [0-9]{1,2} "),
        (
            "gem5",
            (
                r"gem5|KVM: (?:Internal error \(suberror|Failed to enter virtualized|Unexpected exit \(exit_reason"
                r"|Unknown error when starting vCPU|Got exception when starting vCPU|Failed to start virtual CPU)"
            ),
        ),
        ("nanvix", r"nanvix|uservm|\brun\(\): (?:fail entry|internal error|shutdown|exception|unsupported exit)"),
        ("tinykvm", r"tinykvm|Shutdown! Triple fault\?|Failed to start guest! Misconfigured"),
        ("qemu", r"qemu|vm entry failed with error|kvm_run_exit cpu_index"),
    )
)
# What stands before a message in the VMM's own log, for examples of its forms.
LOG_LINES: Final = {
    "cloud-hypervisor": "cloud-hypervisor: 31.134s: <vcpu1> ERROR:vmm/src/cpu.rs:1069 -- ",
    "crosvm": "[2026-01-02T03:04:05.123456789+00:00 ERROR crosvm::crosvm::sys::linux::vcpu] ",
    "libkrun": "[2026-01-02T03:04:05Z ERROR krun_vmm::linux::vstate] ",
    "firecracker": "2026-01-02T03:04:05.123456789 [anonymous-instance:fc_vcpu 1:ERROR:src/vmm/src/vstate/vcpu.rs:469] ",
    "stratovirt": "2026-01-02T03:04:05: INFO: ",
    "openvmm": "ERROR vp{index=1}: virt_kvm::arch: ",
    "hyperlight": "Error: ",
    "uhyve": "[2026-01-02T03:04:05Z ERROR uhyvelib::vm] CPU 1 ",
    "solo5": "solo5-hvt: ",
    "dosemu2": "ERROR: ",
    "km": "km: ",
    "gokvm": "2026/01/02 03:04:05 vcpu 1 exits: ",
    "enarx": "enarx: Error: ",
    "virtualbox": "00:00:10.000000 ",
    "kvm selftests": "  ",
    "nanvix": "[WARN][uservm::vmm::microvm] ",
}
_AROUND: Final = 2000


class Namer:
    """Names the VMM of each line of one text: by the line itself, else by what stands around it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.around: dict[int, str | None] = {}  # by block of the text, so that a flood of lines is asked once

    def name(self, start: int, stop: int) -> str | None:
        """The VMM that printed text[start:stop]."""
        named = _named_in(self.text[start:stop])
        if named:
            return named
        block = start // _AROUND
        if block not in self.around:
            self.around[block] = _named_in(self.text[max(0, start - _AROUND) : stop + _AROUND // 4])
        return self.around[block]


def _named_in(span: str) -> str | None:
    return next((name for name, pattern in _NAMED_BY if pattern.search(span)), None)
