"""Each known bug has a failure made to order that it fits, and that no other bug fits unless it says so."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from kvmwhy import testing
from kvmwhy.abi.encode_page import ExitInfo
from kvmwhy.abi.internal_error import instruction_words
from kvmwhy.diagnosis.cause import FAMILIES
from kvmwhy.diagnosis.facts import gather
from kvmwhy.diagnosis.knowledge import bugs, causes, known
from kvmwhy.diagnosis.knowledge.predicate import CONDITIONS, Shape, asked
from kvmwhy.readers import read
from kvmwhy.record import Code, ControlBlock, Cpu, Emulation, Failure, Host, HostEvent, Segment

FLAT = Segment(0x10, 0, 0xFFFFFFFF, 0xC09300)
REAL = Segment(0, 0, 0xFFFF, 0x9300)
BIG = Segment(0, 0, 0xFFFFFFFF, 0x809300)
RESET = {"rip": 0xFFF0, "rflags": 2, "cr0": 0x60000010, "cr3": 0, "cr4": 0, "efer": 0}
SVM_INVALID = 0xFFFFFFFF


def long64(*, cpl: int = 0, smm: bool = False, **registers: int) -> Cpu:
    values = {
        "rip": 0xFFFFFFFF81A0271C,
        "rflags": 0x10046,
        "cr0": 0x80050033,
        "cr3": 0x1000,
        "cr4": 0x6F0,
        "efer": 0xD01,
    }
    cs = Segment(0x10 | cpl, 0, 0xFFFFFFFF, 0xA09B00 | cpl << 13)
    segments = {"cs": cs, "ss": FLAT, "ds": FLAT, "es": FLAT}
    return Cpu(registers={**values, **registers}, segments=segments, cpl=cpl, smm=smm)


def prot32(*, bits: int = 32, cs: int = 8, base: int = 0, **registers: int) -> Cpu:
    values = {"rip": 0x8000, "rflags": 0x46, "cr0": 0x33, "cr3": 0, "cr4": 0, "efer": 0, **registers}
    code = Segment(cs, base, 0xFFFFFFFF, 0xC09B00 if bits == 32 else 0x9B00)
    segments = {"cs": code, "ss": FLAT, "ds": FLAT, "es": FLAT, "idt": Segment(0, 0, 0x7FF, 0)}
    return Cpu(registers=values, segments=segments, cpl=0, smm=False)


def real16(
    cs: int = 0xF000, *, data: Segment = REAL, smm: bool = False, base: int | None = None, **registers: int
) -> Cpu:
    values = {"rip": 0x4F4, "rax": 0xE0A, "rflags": 0x246, "cr0": 0x10, "cr3": 0, "cr4": 0, "efer": 0, **registers}
    code = Segment(cs, cs << 4 if base is None else base, 0xFFFF, 0x9B00)
    return Cpu(registers=values, segments={"cs": code, **dict.fromkeys(("ss", "ds", "es"), data)}, cpl=0, smm=smm)


def at_reset(**registers: int) -> Cpu:
    cpu = real16(base=0xFFFF0000)
    return msgspec.structs.replace(cpu, registers={**cpu.registers, **RESET, "rax": 0, **registers})


def zero() -> Cpu:
    nothing = Segment(0, 0, 0, 0)
    values = dict.fromkeys(("rip", "rax", "rsp", "rflags", "cr0", "cr3", "cr4", "efer"), 0)
    return Cpu(registers=values, segments={"cs": nothing, "ss": nothing}, smm=False)


def smi() -> Cpu:
    """The first instruction of an SMI handler."""
    return real16(0xC000, base=0x7FFC0000, data=BIG, smm=True, rip=0x8000, rflags=2)


def page(data: bytes, **more: Any) -> Failure:
    """A ``kvm_run`` page as KVM leaves it, with what a VMM and a log add."""
    return msgspec.structs.replace(read(data).failures[0], **more)


def emulation(insn: str, reason: int = 0x30, info1: int = 0x181, info2: int = 0, **more: Any) -> Failure:
    info = ExitInfo(reason, info1, info2)
    return page(testing.emulation_failure_page(bytes.fromhex(insn), exit_info=info), **more)


def no_bytes(reason: int = 0x30, info1: int = 0x184, info2: int = 0, **more: Any) -> Failure:
    return page(testing.fetch_failure_page(exit_info=ExitInfo(reason, info1, info2)), **more)


def old_emulation(insn: str, **more: Any) -> Failure:
    """What KVM said before 5.14: nothing. The VMM read the code."""
    return page(testing.emulation_failure_page(since="5.10"), code=code(insn), **more)


def entry(number: int, cpu: Cpu | None, **more: Any) -> Failure:
    return page(testing.entry_failure_page(number), cpu=cpu, **more)


def delivery(vectoring: int, reason: int, gpa: int, cpu: Cpu, **more: Any) -> Failure:
    return page(testing.delivery_failure_page(vectoring, reason, gpa=gpa), cpu=cpu, **more)


def unexpected(reason: int, **more: Any) -> Failure:
    return page(testing.unexpected_exit_page(reason), **more)


def run_error(errno: str, cpu: Cpu | None = None, *, log: tuple[str, ...] = (), **host: Any) -> Failure:
    events = tuple(HostEvent(kind=kind) for kind in log)
    return Failure(kind="run-error", errno=errno, cpu=cpu, host=Host(events=events, **host))


def code(insn: str) -> Code:
    return Code(tuple(bytes.fromhex(insn)), 0)


def dump(**fields: int) -> ControlBlock:
    return ControlBlock("vmcs", fields)


# The failures were built from the public reports and commits that each entry names.
EXAMPLES: dict[str, Failure] = {
    "bug-smi-in-sti-shadow": entry(0x80000021, smi(), control=dump(guest_interruptibility=9)),
    "bug-shadow-pae-root-me-mask": entry(
        0x80000021, real16(rip=0xE05B), host=Host(events=(HostEvent(kind="host-oops"),))
    ),
    "bug-vmx-exit-control-typo": entry(7, at_reset(rdx=0x206C2)),
    "bug-sev-es-debugctl": entry(SVM_INVALID, Cpu(registers={"rax": 4, "rcx": 0x1D9, "rdx": 0}, smm=False)),
    "bug-sev-es-ghcb-einval": run_error(
        "EINVAL", Cpu(registers={"rax": 0x1A, "rbx": 0x73, "rip": 0, "cr0": 0x80000001, "efer": 0x900}, smm=False)
    ),
    "bug-snp-vmsa-gone": entry(SVM_INVALID, zero(), host=Host(kernel="6.12.0")),
    "bug-svm-efer-lmsle": entry(SVM_INVALID, long64(efer=0x3D01)),
    "bug-single-step-in-mov-ss-shadow": entry(0x80000021, long64(rflags=0x10146)),
    "bug-real-mode-error-code": entry(7, real16(), control=dump(vm_entry_interruption_info=0x80000B0D)),
    "bug-recovery-thread-enomem": run_error("ENOMEM", at_reset()),
    "bug-vfio-huge-fault": run_error("EFAULT", long64(), log=("vfio-fault",)),
    "bug-fsdax-page-count": run_error("EFAULT", long64(), log=("zone-device-page",)),
    "bug-gpu-pages-efault": run_error("EFAULT", long64(cpl=3, rip=0x7FB20BFC3F7F)),
    "bug-ksm-bad-page-state": run_error("EFAULT", long64(), log=("bad-page-state",)),
    "bug-mmio-walk-einval": run_error("EINVAL", real16(), log=("mmio-spte-reserved",)),
    "bug-nested-smi-eio": run_error("EIO", real16(0xCB00, rip=0x18)),
    "bug-seamcall-exit": unexpected(76),
    "bug-msr-immediate-exit": unexpected(84, host=Host(vendor="vmx")),
    "bug-pml-full-in-l2": unexpected(62),
    "bug-rsm-pcid": old_emulation("0faa", cpu=msgspec.structs.replace(prot32(rip=0x7FFC9000), smm=True)),
    "bug-rsm-triple-fault": page(
        testing.shutdown_page(), cpu=msgspec.structs.replace(prot32(rip=0x7FFC9000), smm=True), code=code("0faa")
    ),
    "bug-rsm-truncates-rip": no_bytes(cpu=long64(rip=0x81A0271C), host=Host(kernel="5.15.0")),
    "bug-mtrr-ap-runs-into-vga": old_emulation("0000", cpu=prot32(bits=16, cs=0x9F00, base=0x9F000, rip=0x1000, rbx=2)),
    "bug-l1-reset-nested-vmcs": entry(7, at_reset(rflags=0x246, rdx=0xF61, cr4=0x680)),
    "bug-intel-pt-in-guests": entry(0x80000021, long64(), control=dump(vm_entry_controls=0x553FF)),
    "bug-task-switch-with-cet": page(testing.emulation_failure_page(since="5.10"), cpu=prot32(cr4=1 << 23)),
    "bug-emulator-avx-moves": emulation("c5fe6f06", cpu=long64(rsi=0xFFFFC90000100000)),
    "bug-silent-avx-moves": Failure(
        kind="other",
        silent=True,
        emulation=Emulation(rip=0x401000, cs_base=0, insn=bytes.fromhex("c5fe7f07"), mode="long64"),
    ),
    "bug-emulator-movntdqa": emulation("660f382a06", cpu=long64()),
    "bug-emulator-clflushopt": emulation("660fae38", cpu=long64()),
    "bug-emulator-movbe16": emulation("660f38f006", cpu=long64()),
    "bug-emulator-cet-branches": emulation("ff10", cpu=long64(cr4=0x8006F0), host=Host(kernel="6.18.0")),
    "bug-old-kvm-sse-moves": old_emulation("660fe701", cpu=long64()),
    "bug-x87-mmio": emulation("df2f", cpu=prot32(rdi=0xD0000000)),
    "bug-movdir-doorbell": emulation("660f38f806", cpu=long64()),
    "bug-emulator-hint-nops": emulation("0f1c00", cpu=long64()),
    "bug-cmpxchg16b-not-ram": emulation("f0480fc70f", cpu=long64()),
    "bug-spr-apicv-vp-assist": delivery(0x8000002F, 0x20, 0, long64(rcx=0x40000070)),
    "bug-vmresume-not-launched": entry(5, long64()),
    "bug-tdx-poisoned-memory": unexpected(0xE000060400000000),
    "bug-qemu-reset-gif": entry(0x80000021, at_reset(rip=0x906428E6, rsi=0x91EE32C0)),
    "bug-qemu-cxl-window-xsave": emulation(
        "480fc7614031c0488b4710f6804002", 0x400, 0x10000000F, 0x4A0003140, cpu=long64(rcx=0xFFFF8EACE0003100)
    ),
    "bug-qemu-cxl-window-tables": delivery(
        0x80000B0E, 0x31, 0x390074AC0, long64(cr3=0x390074000, rsp=0xFFFFAC1C4067BC88)
    ),
    "bug-qemu-memslot-gap": no_bytes(
        0x400, 0x10000001C, 0xF7A21, cpu=real16(rip=0x7A21), code=code("ebfd"), host=Host(ram_bytes=1 << 32)
    ),
    "bug-qemu-migration-nested-smm": delivery(
        0x80000B0E, 0x31, 0x7F809000, long64(rip=0xFFF0, cr3=0x7F809000, cr4=0x668)
    ),
    "bug-qemu-multiboot-split-lock": page(
        testing.exception_page(17), cpu=prot32(bits=16, cs=0xC000, base=0xC0000, rip=0x1E3)
    ),
    "bug-qemu-sev-term-unknown": Failure(kind="other", exit_reason=24),
    "bug-vmm-memory-fault-exit": page(testing.memory_fault_page()),
    "bug-vmm-tdx-exit": Failure(kind="other", exit_reason=40),
    "bug-seabios-endbr": old_emulation("f30f1efb", cpu=real16(0, data=BIG, rip=0x7ACF)),
    "bug-seabios-rsm-igd": old_emulation("0faa", cpu=real16(0, rip=0xFD069)),
    "bug-edk2-split-lock": page(testing.exception_page(17), cpu=long64(), code=code("48870424")),
    "bug-vmware-unrestricted-guest": entry(7, at_reset(rdx=0x306C3), host=Host(hypervisor="VMware")),
    "bug-vmware-int-in-real-mode": entry(7, real16(0xC980), code=code("cd10")),
    "bug-hyperv-nested-svm-smm": entry(SVM_INVALID, smi()),
    "bug-hyperv-nested-svm-cpu-host": entry(SVM_INVALID, at_reset(), host=Host(hypervisor="Microsoft Hyper-V")),
    "bug-azure-evmcs-field": entry(7, at_reset(), host=Host(events=(HostEvent(kind="evmcs-field"),))),
    "bug-hyperv-runner-no-number": entry(0, at_reset(), host=Host(hypervisor="Microsoft Hyper-V")),
    "bug-nested-vmresume-no-number": entry(0, long64(rip=0xFFFFFF800004DDF7)),
    "bug-tcg-svm-return-address": old_emulation("0000", cpu=prot32(rip=0x40000000)),
    "bug-esxi-nested-amd-3.13": old_emulation("0000", cpu=prot32(rip=0xF000FF53)),
    "bug-nested-la57-host-state": entry(8, at_reset(), host=Host(hypervisor="KVM")),
    "bug-outer-notify-exit": unexpected(75, host=Host(vendor="vmx")),
    "bug-outer-bus-lock-exit": unexpected(74, host=Host(vendor="vmx")),
    "bug-nested-svm-without-nrips": emulation("0fa2", 0x72, 0, cpu=long64(cpl=3)),
    "bug-emulate-invalid-state-off": entry(0x80000021, real16(data=BIG)),
    "bug-patched-kvm-unhandled-exit": unexpected(0x43),
    "bug-tdx-stack-mismatch": run_error("EIO", zero(), vendor="tdx"),
    "bug-m-counts-mib": delivery(0x80000306, 0x31, 0x32EFE0, prot32(rip=7, rsp=0x32EFE4, cr0=0x11)),
    "bug-l1-vmx-operand-not-ram": no_bytes(0x15, 8, host=Host(vendor="vmx"), cpu=long64()),
    "bug-l1-vmcb-not-ram": no_bytes(0x80, 0, cpu=long64()),
    "bug-sgx-epc-not-backed": no_bytes(0x3C, 0, host=Host(vendor="vmx"), cpu=long64()),
    "bug-illumos-double-fault": Failure(kind="internal-error", suberror=2, ndata=2, data=(0x80000008, 0x80000B08)),
    "bug-unikraft-jump-to-minus-one": no_bytes(0x400, 0x100000014, 0x7FFFFFF000, cpu=long64(rip=(1 << 64) - 1)),
}
IDS = [bug.id for bug in bugs()]
# An address, a commit, a file of the kernel, a manual's section, or a list and a subject.
SOURCE = (
    r"https?://|[0-9a-f]{10,12}|/[a-z0-9_-]+\.(?:[ch]|rst|txt)\b|\"(?:KVM|kvm)|\blists?\b|-devel|forums\.org"
    r"|change logs|APM vol|SDM vol|selftests"
)


def matched(failure: Failure) -> set[str]:
    return {finding.cause.id for finding in known(gather(failure))}


def test_there_is_an_example_for_each_bug() -> None:
    """No entry without a failure that it fits; at least sixty entries, each with an ID of its own."""
    assert sorted(EXAMPLES) == sorted(IDS)
    assert len(set(IDS)) == len(IDS) >= 60


@pytest.mark.parametrize("bug", bugs(), ids=IDS)
def test_a_bug_fits_its_example_and_no_other_bug_does(bug: Any) -> None:
    """The shapes are so narrow that two of them meet only where an entry says so."""
    found = matched(EXAMPLES[bug.id])
    assert bug.id in found
    assert found <= {bug.id, *bug.also}


@pytest.mark.parametrize("name", [n for n in Shape._fields if n != "kind"])
def test_each_condition_is_asked_somewhere_and_has_words(name: str) -> None:
    """No condition without a use: the language of shapes has only what the entries need."""
    used = [one.text for bug in bugs() for shape in (bug.shape, bug.hints) for one in asked(shape) if one.name == name]
    assert used
    assert all(used)


def test_the_conditions_are_the_fields() -> None:
    """Every field of a shape has its test and its words."""
    assert set(CONDITIONS) == set(Shape._fields)


@pytest.mark.parametrize("bug", bugs(), ids=IDS)
def test_the_page_of_a_bug_is_whole(bug: Any) -> None:
    """What a person reads: a title, a paragraph, signs, a way out, and a source that can be looked up."""
    cause = bug.cause()
    assert re.fullmatch(r"bug-[a-z0-9.-]+", cause.id)
    assert cause.family in FAMILIES
    assert not cause.title.endswith(".")
    assert len(cause.what) > 80
    assert cause.recognise
    assert cause.example
    assert cause.confused_with.endswith(".")
    assert any(cause.fix)
    assert all(text is None or text.endswith(".") for text in cause.fix)
    assert cause.references
    assert all(re.search(SOURCE, source) for source in cause.references)


def test_ids_that_entries_name_exist() -> None:
    """``also`` names entries; a cause called in ``confused_with`` as bug-… is an entry."""
    ids = set(IDS)
    for bug in bugs():
        assert set(bug.also) <= ids - {bug.id}
        assert set(re.findall(r"\bbug-[a-z0-9.-]*[a-z0-9]", bug.confused_with)) <= ids
    assert [cause.id for cause in causes()] == IDS


def test_words_of_an_instruction_are_as_kvm_stores_them() -> None:
    """The examples' pages carry their bytes where KVM does: size first, then the bytes."""
    failure = EXAMPLES["bug-emulator-clflushopt"]
    assert failure.data[1:3] == instruction_words(bytes.fromhex("660fae38").ljust(15, b"\x90"))
