"""What the kernel prints behind an oops, a BUG, a warning or a stall: who ran, where, on what machine, and through
which functions.

The shapes: ``CPU: 3 PID: 99 Comm: qemu Not tainted 5.10.0 #1`` (since 6.10 with ``UID: 0``; until 3.10 ``Pid: 99,
comm: qemu Not tainted``),
``Hardware name: …``, ``RIP: 0010:func+0x1/0x2 [module]`` (arm64 ``pc : func+0x…``), ``Call Trace:`` and its
functions, with addresses
until 4.8, ``[inline]`` lines where syzbot has symbolized them; the end is ``---[ end trace`` or a line that is none
of these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmwhy.readers.kernel_log.host_messages.printf import Value
from kvmwhy.readers.kernel_log.printk import Line, Origin

_MOST_LINES: Final = 80
_MOST_FUNCTIONS: Final = 12
_MOST_STRANGE: Final = 6  # lines of others in a row after which a report is over
_RELEASE: Final = r"(?P<kernel>[0-9]{1,2}\.[0-9]{1,4}\S{0,80})"
_TAINT: Final = rf"(?P<taint>Not tainted|Tainted: ?[A-Z() ]{{1,40}}?)(?: {{1,16}}{_RELEASE}|\s{{0,16}}$)"
_WHO: Final = re.compile(
    r"CPU: (?P<cpu>[0-9]{1,5}) (?:UID: [0-9]{1,10} )?PID: (?P<pid>[0-9]{1,10}) Comm: (?P<comm>.{1,32}?)"
    rf"(?: Kdump: loaded)?(?:\s{{0,16}}$| {_TAINT})"
)
_OLD_WHO: Final = re.compile(rf"Pid: (?P<pid>[0-9]{{1,10}}), comm: (?P<comm>.{{1,32}}?) {_TAINT}")
_FOLDED_TAINT: Final = re.compile(rf"(?:{_TAINT}|{_RELEASE.replace('kernel', 'release')})")
_HARDWARE: Final = re.compile(r"Hardware name: (.{1,120})")
_PAGE_FAULT: Final = re.compile(r"#PF: error_code\(0x(?P<error_code>[0-9a-f]{1,8})\) - (?P<why>[a-zA-Z -]{3,40})")
_FUNCTION: Final = r"(?P<function>[A-Za-z_][\w.]{0,100})(?:\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8})"
_MODULE: Final = r"(?: {1,3}\[(?P<module>[a-z]\w{0,40})(?: [0-9a-f]{16,40})?\])?"  # some kernels print the build, too
_ADDRESS: Final = r"(?:\[<[0-9a-f]{8,16}>\] {0,3}){0,2}"
# x86, arm64, i386, powerpc, riscv.
_AT: Final = r"(?:RIP: (?:[0-9a-f]{4}:)?|pc : |EIP: (?:is at )?|NIP \[[0-9a-f]{8,16}\] |epc : )"
_WHERE: Final = re.compile(_AT + _ADDRESS + _FUNCTION + _MODULE)
_CALL: Final = re.compile(_ADDRESS + r"(?:\? )?" + _FUNCTION + _MODULE)
_INLINE: Final = re.compile(r"(?P<function>[A-Za-z_][\w.]{0,100}) \S{1,120}:[0-9]{1,6} \[inline\]")
_OF_KVM: Final = re.compile(r"(?:kvm(?:_intel|_amd)?(?: ?\[[0-9]{1,10}\])?|SVM|virt/tdx|SEV-SNP): ")
_END: Final = re.compile(r"---\[ end |={20}|-{20}\[ cut here \]")
# How the lines of a report begin: registers, code and stack of each architecture, what lockdep and the stall
# detector list.
_BEGINNINGS: Final = (
    "RIP", "RSP", "EIP", "ESP", "EFLAGS", "CR0", "CR2", "CR3", "CR4", "DR0", "DR3", "DR6", "FS:", "CS:", "RAX", "RBX",
    "RCX", "RDX", "RSI", "RDI", "RBP", "R08", "R09", "R10", "R11", "R12", "R13", "R14", "R15", "EAX", "EBX", "ECX",
    "EDX", "PKRU", "Code", "Call Trace", "Call trace", "Modules linked in", "CPU", "Pid", "Hardware name", "PGD",
    "#PF", "Oops", "Tainted", "Workqueue", "Stack", "<", "? ", "[<", "pc :", "lr :", "sp :", "pstate", "Sending NMI",
    "NMI backtrace", "Mem abort", "Data abort", "ESR", "swapper", "NIP", "GPR", "LR", "Kernel", "note:", "Killed",
    "rcu:", "(", "Internal error", "irq event", "hardirqs", "softirqs", "stack backtrace", "other info", "but task",
    "the existing", "-> #", "lock(", "...", "Unable to handle", "[#", "Dumping ftrace",
)  # fmt: skip
_OF_A_REPORT: Final = re.compile(
    "|".join(map(re.escape, _BEGINNINGS)) + r"|x[0-9]{1,2} ?:|[0-9]{1,3} locks? held|#[0-9]|[A-Za-z_][\w.]{1,80}[+/ ]"
)
_KVM: Final = re.compile(
    r"\[kvm(?:_intel|_amd|_hv|_pr)?(?: [0-9a-f]{16,40})?\]|\bkvm_(?:arch_)?(?:vcpu|vm|dev|mmu|gmem|mem|spurious)_\w"
    r"|\b(?:vmx|svm|kvmppc|tdx|sev|vgic)_[a-z_]{3,60}\+0x|\bvcpu_(?:run|enter_guest)\b|/kvm/|kvm_host\.h|entry-kvm\.h"
    r"|\b(?:_{0,2}snp_enable|snp_rmptable_init|snp_prepare|_{0,2}rmpupdate|seamldr_\w{3,30})\+0x"
    # Intel's GVT-g, vhost and VFIO serve guests, too; illumos writes module:function+offset.
    r"|/(?:i915/gvt|vhost|vfio)/|module \"kvm\"|\bkvm:[a-z]\w{2,60}\+[0-9a-f]"
)
# The line with the modules of a machine that runs KVM.
_HAS_KVM: Final = re.compile(r"Modules linked in:[^\n]{0,4000}? kvm(?:_intel|_amd|_hv|_pr)?\b")
# illumos names the process on a line of its own: usr/src/uts/i86pc/os/trap.c, die() and traptrace's dump.
_ILLUMOS: Final = "BAD TRAP: "
_ILLUMOS_WHO: Final = re.compile(r"(?P<comm>[A-Za-z][\w.-]{1,30}):$")
# Machines that QEMU, Firecracker, crosvm and other KVM VMMs show to their guests ("linux,dummy-virt": QEMU's virt).
_GUEST_HARDWARE: Final = re.compile(
    r"QEMU|linux,dummy-virt|Bochs|Firecracker|Cloud Hypervisor|KubeVirt|OpenStack|RHEV|oVirt|Red Hat KVM|riscv-virtio"
    r"|crosvm|Google Compute"
)


class Report(NamedTuple):
    """What stands behind the head of a report. ``lines``: how many lines it takes."""

    fields: dict[str, Value] = {}  # noqa: RUF012  # never changed
    lines: int = 0
    names_kvm: bool = False
    is_guest: bool = False


def report_of(slug: str, head: Line, following: Sequence[str], origin: Origin) -> Report:
    """The lines behind a head that belong to it."""
    fields: dict[str, Value] = {}
    functions: list[str] = []
    names_kvm = bool(_KVM.search(head.text))
    has_kvm = False
    last = strange = who_at = 0
    for n, text in enumerate(following[:_MOST_LINES], 1):
        line = origin.line(head.number + n, text)
        words = line.text[line.start :].strip()
        if _END.match(words):
            last = n if words.startswith("---[ end") else last
            break
        folded = n == who_at + 1 and "kernel" not in fields and _FOLDED_TAINT.match(words)
        if _OF_KVM.match(words):
            break  # a module's own line: a report has none
        if head.text[head.start :].startswith(_ILLUMOS) and (who := _ILLUMOS_WHO.match(words)):
            fields.setdefault("comm", who["comm"])
            last = n
            continue
        if not words or not (folded or _OF_A_REPORT.match(words)) or not _is_of(head, line):
            strange += 1
            if strange > _MOST_STRANGE:
                break
            continue
        if n > 1 and slug == "warning" and words.startswith(("WARNING: ", "BUG: ")):
            break
        last, strange = n, 0
        names_kvm = names_kvm or bool(_KVM.search(words))
        has_kvm = has_kvm or bool(_HAS_KVM.match(words))
        if who := _WHO.match(words) or _OLD_WHO.match(words):
            who_at = n
            _fill(fields, who)
        elif n == who_at + 1 and "kernel" not in fields and (rest := _FOLDED_TAINT.match(words)):
            _fill(fields, rest)
        elif fault := _PAGE_FAULT.match(words):
            fields.setdefault("error_code", int(fault["error_code"], 16))
            fields.setdefault("why", fault["why"].strip())
        elif hardware := _HARDWARE.match(words):
            fields.setdefault("hardware", hardware[1].strip())
        elif where := _WHERE.match(words):
            fields.setdefault("function", where["function"])
            if where["module"]:
                fields.setdefault("module", where["module"])
        elif (call := _CALL.match(words) or _INLINE.match(words)) and len(functions) < _MOST_FUNCTIONS:
            functions.append(call["function"])
    if functions:
        fields["trace"] = " ".join(functions)
    if has_kvm and slug == "oops" and not functions and not fields.keys() & {"comm", "function"}:
        names_kvm = True  # cut before RIP and the trace: the modules are all that is known
    if names_kvm:
        fields["kvm"] = 1
    return Report(fields, last, names_kvm, bool(_GUEST_HARDWARE.search(str(fields.get("hardware", "")))))


def _fill(fields: dict[str, Value], match: re.Match[str]) -> None:
    for name, value in match.groupdict().items():
        if value:
            key = "kernel" if name == "release" else name
            fields.setdefault(key, int(value) if key in {"cpu", "pid"} else value.strip())


def _is_of(head: Line, line: Line) -> bool:
    """Whether both may have been printed by one, where the log says who."""
    return head.caller is None or line.caller is None or head.caller == line.caller
