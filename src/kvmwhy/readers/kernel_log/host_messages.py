"""What else a kernel log says about the host and its guests, as sentences in kvmwhy's words.

Facts, not failures: they stand beside a failure, and the reader only gives those that stood near it.
Sources: arch/x86/kvm (vmx/vmx.c, vmx/vmx_ops.h, svm/svm.c, x86.c, emulate.c), arch/x86/kernel/cpu/bus_lock.c,
mm/oom_kill.c, kernel/{watchdog,panic,hung_task}.c, arch/x86/kernel/cpu/mce/core.c; 4.x to 7.3.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cache
from typing import Final, NamedTuple

from kvmwhy.readers.kernel_log.printk import Line

_NEAR: Final = 250  # lines
_MOST: Final = 12  # sentences beside one failure


class Remark(NamedTuple):
    line: int
    sentence: str


# A literal that every such line has, what is read of it, and the sentence. ``\1`` is what was read.
_REMARKS: Final[tuple[tuple[str, str, str], ...]] = (
    # KVM gave up on something that the guest asked for.
    (
        "rdmsr",
        r"(?:[Uu]nhandled|ignored|unimplemented) rdmsr: ?\(?(0x[0-9a-f]{1,8})",
        r"the guest read MSR \1, which KVM does not have",
    ),
    ("RDMSR", r"Unhandled RDMSR\((0x[0-9a-f]{1,8})\)", r"the guest read MSR \1, which KVM does not have"),
    (
        "wrmsr",
        r"(?:[Uu]nhandled|ignored|unimplemented|disabled[\w ]{0,20}) wrmsr: ?\(?(0x[0-9a-f]{1,8})",
        r"the guest wrote MSR \1, which KVM does not have",
    ),
    ("WRMSR", r"Unhandled WRMSR\((0x[0-9a-f]{1,8})\)", r"the guest wrote MSR \1, which KVM does not have"),
    (
        "emulating exchange as write",
        r"()",
        "KVM emulated a locked instruction as a plain write: its operand was not in RAM",
    ),
    ("emulated as NOP", r"(\w{1,16}) instruction emulated as NOP", r"KVM carried out \1 as if it were NOP"),
    (
        "unhandled control register",
        r"op ([0-9]{1,2}) cr ([0-9]{1,2})",
        r"KVM met an access to CR\2 that it does not handle",
    ),
    ("vmgexit: ", r"vmgexit: ([^\n]{1,80})", "KVM refused a request of an SEV-ES guest (vmgexit)"),
    ("SEAMCALL", r"()", "the TDX module refused a call of KVM (SEAMCALL)"),
    ("vp_enter_ret", r"vp_enter_ret (0x[0-9a-f]{1,16})", r"entering the trust domain returned \1"),
    ("Breaking out of NMI-blocked", r"()", "a guest blocked NMIs for more than a second, and KVM let one through"),
    # KVM or the CPU under it is not well.
    ("vmread f", r"vmread (?:failed|faulted)(?:: field=([0-9a-f]{1,16}))?", r"the host's VMREAD failed (field \1)"),
    (
        "vmwrite f",
        r"vmwrite failed: field=([0-9a-f]{1,16}) val=[0-9a-f]{1,16} err=([0-9]{1,4})",
        r"the host's VMWRITE failed (field \1, VM-instruction error \2)",
    ),
    (
        "vmwrite error",
        r"vmwrite error: reg ([0-9a-f]{1,16}) value [0-9a-f]{1,16} \(err ([0-9]{1,4})\)",
        r"the host's VMWRITE failed (field \1, VM-instruction error \2)",
    ),
    (
        "EVMCS field",
        r"unsupported EVMCS field ([0-9a-f]{1,8})",
        r"KVM used field \1, which the enlightened VMCS of the hypervisor around this host lacks (evmcs field)",
    ),
    ("vmclear f", r"vmclear (?:failed|fail): ", "the host's VMCLEAR failed: something else uses VMX, or took it away"),
    (
        "vmptrld ",
        r"vmptrld (?:failed: |[0-9a-fx]{1,18}/[0-9a-f]{1,16} failed)",
        "the host's VMPTRLD failed: something else uses VMX, or took it away",
    ),
    ("invvpid f", r"invvpid failed: ", "the host's INVVPID failed"),
    ("invept f", r"invept failed: ", "the host's INVEPT failed"),
    ("disabled by bios", r"()", "VMX or SVM is switched off in this host's firmware"),
    ("disabled by BIOS", r"()", "VMX or SVM is switched off in this host's firmware"),
    ("outside TXT", r"VMX \(outside TXT\)", "VMX outside TXT is switched off in this host's firmware"),
    (
        "no hardware support",
        r"kvm: no hardware support",
        "the kernel found no VMX or SVM on this CPU: in a VM, nesting is off",
    ),
    ("VMX not supported", r"()", "the kernel found no VMX on this CPU: in a VM, nesting is off"),
    (
        "ept_misconfig_inspect_spte",
        r"spte (0x[0-9a-f]{1,16}) level ([0-9])",
        r"KVM found a page-table entry of its own misconfigured: \1 at level \2",
    ),
    (
        "set kvm_intel.dump_invalid_vmcs=1",
        r"()",
        "the dump of the VMCS is switched off (kvm_intel dump_invalid_vmcs=1 turns it on)",
    ),
    (
        "set kvm_amd.dump_invalid_vmcb=1",
        r"()",
        "the dump of the VMCB is switched off (kvm_amd dump_invalid_vmcb=1 turns it on)",
    ),
    # The host at large.
    (
        "WARNING: ",
        # "WARNING: CPU: 3 PID: 99 at FILE:LINE function", and since 6.19 "WARNING: FILE:LINE at function".
        r"WARNING: (?:.{0,60}? at )?((?:arch/x86|virt)/kvm/[\w./-]{1,60}:[0-9]{1,5})",
        r"the host's kernel warned in KVM, at \1",
    ),
    (
        "kernel BUG at ",
        r"kernel BUG at ((?:arch/x86|virt)/kvm/[\w./-]{1,80}:[0-9]{1,5})",
        r"KVM found a bug in itself, at \1",
    ),
    (
        "kernel BUG at ",
        r"kernel BUG at (?!arch/x86/kvm|virt/kvm)([\w./-]{1,80}:[0-9]{1,5})",
        r"the host's kernel hit a BUG at \1",
    ),
    ("Oops: ", r"Oops: ", "the host's kernel oopsed beside this failure"),
    (
        "general protection fault",
        r"general protection fault[^\n]{0,60}\[#",
        "the host's kernel took a general protection fault",
    ),
    ("Machine check", r"mce: .{0,20}Machine check|Machine check events logged", "the host logged machine checks"),
    ("[Hardware Error]", r"()", "the host logged hardware errors"),
    (
        "soft lockup",
        r"soft lockup - CPU#([0-9]{1,5}) stuck for ([0-9]{1,6})s",
        r"the host's CPU \1 was stuck for \2 s (soft lockup)",
    ),
    ("hard LOCKUP", r"()", "a CPU of the host was stuck with interrupts off (hard lockup)"),
    (
        "blocked for more than",
        r"task (?:qemu|CPU [0-9]{1,4}/KVM|kvm)[^\n]{0,40} blocked for more than ([0-9]{1,6}) seconds",
        r"a thread of the VMM hung for more than \1 s in the host's kernel",
    ),
    (
        "split_lock trap",
        r"(?:CPU [0-9]{1,4}/KVM|qemu|kvm|\(guest\))[^\n]{0,60}split_lock trap at address: (0x[0-9a-f]{1,16})",
        r"the host detected a split lock of a guest at \1",
    ),
    ("bus_lock trap", r"bus_lock trap at address: (0x[0-9a-f]{1,16})", r"the host detected a bus lock at \1"),
    (
        "Killed process",
        r"Killed process [0-9]{1,8} \((qemu[\w.-]{0,20}|kvm|cloud-hyperviso\w?|firecracker)\)",
        r"the host ran out of memory and killed \1",
    ),
    ("kvm: exiting hardware virtualization", r"()", "the host was shutting down: KVM switched virtualisation off"),
)
_LINUX: Final = re.compile(r"\bLinux version ([0-9]{1,2}\.[0-9]{1,4}\S{0,60})")


@cache
def _any_mark() -> re.Pattern[str]:
    return re.compile("|".join(sorted({re.escape(mark) for mark, _, _ in _REMARKS}, key=len, reverse=True)))


def remarks_of(line: Line) -> list[Remark]:
    """The sentences that a line gives: mostly none, hardly ever two."""
    if _any_mark().search(line.text) is None:
        return []
    found = []
    for mark, pattern, sentence in _REMARKS:
        if mark in line.text and (match := _compiled(pattern).search(line.text)):
            found.append(Remark(line.number, match.expand(sentence).replace(" (field )", "")))
    return found


_compiled = cache(re.compile)  # a pattern is compiled when a line has its mark, which is seldom


_TROUBLE: Final = (
    "the host's kernel warned in KVM",
    "KVM found a bug in itself",
    "KVM used field",
    "the host's VM",
    "KVM found a page-table entry",
)


def trouble(remarks: list[Remark]) -> Remark | None:
    """The first that is worth a word although the log tells of no guest's failure."""
    return next((remark for remark in remarks if remark.sentence.startswith(_TROUBLE)), None)


def near(remarks: list[Remark], first: int, last: int) -> tuple[str, ...]:
    """The sentences of the lines around these, each once, in order."""
    start = bisect_left(remarks, first - _NEAR, key=lambda remark: remark.line)
    end = bisect_right(remarks, last + _NEAR, key=lambda remark: remark.line)
    return tuple(dict.fromkeys(remark.sentence for remark in remarks[start:end]))[:_MOST]


def kernel_of(text: str) -> str | None:
    """The release that the log's first line names, if it names one only."""
    found = set(_LINUX.findall(text)) if "Linux version " in text else set()
    return found.pop() if len(found) == 1 else None
