"""Advice that fits: what each role can do, the likeliest origin's first, and what would settle what is open."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.answer import Advice, Mechanism, Origin
from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.advice import ENTRIES, Role
from kvmwhy.diagnosis.knowledge.match import Match
from kvmwhy.diagnosis.knowledge.setup_meanings import meaning_of
from kvmwhy.diagnosis.kvm_run_alone import is_only_a_page
from kvmwhy.diagnosis.never_printed import never_printed
from kvmwhy.diagnosis.scene import Scene
from kvmwhy.record import Failure
from kvmwhy.vmms import VMMS

_LEAST_SHARE: Final = 0.12
_OF_THE_FIRST: Final = 0.25  # beside a likely origin, one that is a quarter as likely is not worth the reader's time
_MOST: Final = 6
_ROLES: Final[tuple[Role, ...]] = ("guest", "vmm", "host")


def advise(scene: Scene, weighed: tuple[Origin, ...], fitting: tuple[Match, ...]) -> tuple[Advice, ...]:
    """Known bugs' own advice, then that of each origin that is likely enough to act on, best first."""
    out: list[Advice] = []
    for origin in weighed:
        if origin.share < max(_LEAST_SHARE, weighed[0].share * _OF_THE_FIRST):
            break
        own = [
            advice
            for match in fitting
            if match.bug.origin == origin.id and not match.bug.nursery
            for advice in _of(match.bug.fix, origin.id)
        ]
        roles = {advice.role for advice in own}  # a bug's own words are better than general ones
        out += own
        for entry in ENTRIES:
            if entry.origin != origin.id or scene.mechanism not in (entry.mechanisms or (scene.mechanism,)):
                continue
            if entry.role not in roles and (answer := entry.when(scene)):
                word = answer if isinstance(answer, str) else ""
                out.append(Advice(entry.role, entry.text.replace("{}", word), origin.id))
    first = {advice.text: advice for advice in reversed(out)}
    return tuple(first[text] for text in dict.fromkeys(advice.text for advice in out))[:_MOST]


def _of(fix: Fix, origin: str) -> list[Advice]:
    return [Advice(role, text, origin) for role, text in zip(_ROLES, fix, strict=True) if text]


def missing(scene: Scene, mechanism: Mechanism) -> tuple[str, ...]:
    """What is not on the page and would say more; what is torn there comes first."""
    failure, wanted = scene.failure, list[str]()
    x86 = scene.arch in {"x86", None}
    if mechanism.id in {"not-this", "guest-loops"} or failure.kind == "healthy":
        return ()
    if failure.control is not None and failure.exit is None and failure.control.kind == "vmcs":
        wanted.append("the rest of this dump in the host's kernel log, the line with `reason=` above all")
    unnamed = failure.kind == "other" and failure.exit_reason is None and not failure.silent
    if failure.kind in {"symptom", "unread"} or unnamed:
        wanted.append("the lines that the VMM printed when it stopped (libvirt: /var/log/libvirt/qemu/NAME.log)")
    if failure.kind == "internal-error" and failure.suberror is None and mechanism.id != "exit-unhandled":
        silent = never_printed(failure.source.vmm, "suberror")
        if failure.trace:  # the tracepoint has no field for it
            silent = "in what the VMM printed, as `KVM internal error. Suberror:`"
        no_line = "the line that names the suberror" if is_qemus(failure) else "internal.suberror of kvm_run"
        wanted.append(f"the suberror and its words: {silent}" if silent else no_line)
    if failure.kind == "entry-failure" and failure.hardware_error is None and failure.control is None and x86:
        silent = never_printed(failure.source.vmm, "hardware_error")
        wanted.append("hardware_entry_failure_reason, the number of the refusal" + (f": {silent}" if silent else ""))
    refused = mechanism.id.startswith("entry-refused") and failure.hardware_error not in _MACHINE_CHECK
    if refused and failure.control is None and x86 and scene.confidential is None:
        wanted.append(_DUMP.get(scene.vendor or "", _DUMP[""]))
    traced = failure.emulation is not None  # a trace has the exit's words, and is printed by no VMM
    lacks_words = failure.kind == "internal-error" and not failure.data and failure.suberror in _WORDS
    if lacks_words and not traced and not is_only_a_page(failure):  # a page has all that the kernel gave
        silent = never_printed(failure.source.vmm, "data")
        wanted.append(_words(failure) + (f": {silent}" if silent else ""))
    stopped = failure.kind in {"internal-error", "entry-failure", "unknown-exit", "exception-exit"}
    printed = failure.cpu is not None and failure.cpu.is_dump
    if mechanism.id == "exit-unhandled":
        stopped = False  # the exit is known, and no register tells more
    if traced and stopped and not printed:
        lacking = "its register dump with the Code= line"
        words = "" if scene.facts.words else "its extra data lines, and "
        wanted.append(f"what the VMM printed: {words}{lacking}")
    elif stopped and not printed:
        silent = never_printed(failure.source.vmm, "registers")
        wanted.append(f"the registers: {silent}" if silent else _registers(failure))
    elif (
        stopped
        and failure.code is None
        and mechanism.id.startswith(("emulation", "fetch"))
        and not scene.reported_bytes
    ):
        wanted.append("the Code= line: the bytes at RIP")
    if mechanism.id == "run-errno" and failure.errno is None:
        wanted.append("the errno: what the VMM printed behind it")
    if mechanism.id == "run-errno" and not scene.events:
        wanted.append("the host's kernel log of that second")
    if mechanism.id == "run-errno" and scene.errno == "EFAULT" and not scene.devices and scene.ram is None:
        wanted.append("the VMM's command line: what backs the guest's RAM, and which devices are passed through")
    vmm = failure.source.vmm or ""
    if mechanism.id == "triple-fault" and vmm.startswith("qemu") and not (failure.cpu and failure.cpu.is_dump):
        wanted.append(_RESET_LOG)
    if mechanism.id in _TRACED and not failure.trace and x86 and not failure.faults:
        wanted.append(_TRACE)
    explained = failure.setup is not None and meaning_of(failure.setup, None) is not None  # by the message itself
    if mechanism.id == "setup-refused" and failure.errno is None and scene.msr is None and not explained:
        wanted.append("the errno: what the program printed behind the call's name")
    if scene.outer is None and scene.dmi is None and not scene.is_physical and mechanism.id in _NESTED:
        wanted.append("whether the host is itself a virtual machine: `systemd-detect-virt`")
    if scene.kernel is None and mechanism.id != "not-shown":
        wanted.append("the host's kernel: `uname -r`")
    return tuple(wanted)


def is_qemus(failure: Failure) -> bool:
    """QEMU and its forks alone print `extra data[n]` and `Code=`."""
    return (failure.source.vmm or "").startswith(("qemu", "android-emulator"))


def _words(failure: Failure) -> str:
    """The words of a suberror, as whoever printed it calls them."""
    says = _WORDS[failure.suberror or 0]
    if not is_qemus(failure):
        return f"the words of internal.data[] in kvm_run, which {says}"
    other = "other " if any("extra data" in torn for torn in failure.damage) else ""
    return f"the {other}extra data lines, which {says}"


def _registers(failure: Failure) -> str:
    """Of a VMM that prints them, its own text; of any other, the calls by which it gets them."""
    if is_qemus(failure):
        return "the register dump that belongs to the failure, with its Code= line"
    if failure.source.vmm in VMMS:
        return f"the register dump that {failure.source.vmm} prints with the failure"
    return "the vCPU's registers at that moment (KVM_GET_REGS, KVM_GET_SREGS), and the bytes at RIP"


_MACHINE_CHECK: Final = frozenset({41, 0x8000_0029})  # EXIT_REASON_MCE_DURING_VMENTRY: no field of the VMCS is at fault
_WORDS: Final = {
    1: "a kernel since 5.14 gives for suberror 1",
    2: "name both events",
    3: "name the event, the exit and the address",
    4: "name the exit",
}
_DUMP: Final = {
    "vmx": "the VMCS in the host's kernel log: set kvm_intel's dump_invalid_vmcs=1 before the next run",
    "svm": "the VMCB in the host's kernel log: set kvm_amd's dump_invalid_vmcb=1 before the next run",
    "": "the host's kernel log with kvm_intel's dump_invalid_vmcs=1 or kvm_amd's dump_invalid_vmcb=1",
}
_RESET_LOG: Final = (
    "the registers of that moment: QEMU logs them with `-d cpu_reset` when it resets the CPU; or start it with"
    " `-no-reboot -no-shutdown -qmp unix:PATH,server=on,wait=off`, and run `kvmwhy attach`"
)
_TRACE: Final = (
    "a trace of the moment: trace-cmd record -e kvm:kvm_exit -e kvm:kvm_emulate_insn -e kvm:kvm_page_fault"
    " -e kvm:kvm_mmio -e kvm:kvm_inj_exception"
)
_TRACED: Final = frozenset({"triple-fault", "event-delivery", "simultaneous-events", "emulation-failed"})
_NESTED: Final = frozenset(
    {
        "entry-refused-guest-state",
        "entry-refused-controls",
        "entry-vmfail-no-number",
        "exit-unhandled",
        "fetch-not-ram",
        "simultaneous-events",
    }
)
