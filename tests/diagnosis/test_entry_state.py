"""Entry failures explained: the broken rule by name, what could not be checked, and what to collect."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from kvmwhy.diagnosis import Diagnosis, diagnose
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import kernel_log, read
from kvmwhy.record import Cpu, Failure, Host, HostEvent, Segment

FIXTURES = Path(__file__).parents[1] / "fixtures"
DATA = Segment(0x10, 0, 0xFFFFFFFF, 0xC09300)
LONG64 = Cpu(
    registers={"rip": 0x1000, "rflags": 0x202, "cr0": 0x80000033, "cr3": 0x1000, "cr4": 0x620, "efer": 0x500},
    segments={
        "cs": Segment(0x18, 0, 0xFFFFFFFF, 0xA09B00),
        **dict.fromkeys(("ss", "ds", "es", "fs", "gs"), DATA),
        "tr": Segment(0x28, 0x2000, 0x67, 0x8B00),
        "ldt": Segment(0, 0, 0, 0),
        "gdt": Segment(0, 0x1000, 0x4F, 0),
        "idt": Segment(0, 0x1800, 0x2FF, 0),
    },
    cpl=0,
)
REAL16 = Cpu(
    registers={"rip": 0x100, "rflags": 2, "cr0": 0x10, "cr3": 0, "cr4": 0, "efer": 0},
    segments={
        "cs": Segment(0x1000, 0x10000, 0xFFFF, 0x9B00),
        **dict.fromkeys(("ds", "es", "fs", "gs"), Segment(0, 0, 0xFFFF, 0x9300)),
        "ss": Segment(0, 0, 0xFFFF, 0xF300),
        "tr": Segment(0, 0, 0xFFFF, 0x8B00),
        "ldt": Segment(0, 0, 0xFFFF, 0x8200),
    },
)


def refused(cpu: Cpu | None, error: int = 0x80000021, **more: object) -> Failure:
    return Failure(kind="entry-failure", hardware_error=error, cpu=cpu, **more)  # type: ignore[arg-type]


def with_segment(cpu: Cpu, name: str, segment: Segment) -> Cpu:
    return msgspec.structs.replace(cpu, segments={**cpu.segments, name: segment})


def dumped(name: str) -> list[Diagnosis]:
    text = (FIXTURES / "kernel-log" / f"{name}.dmesg").read_text()
    return [diagnose(failure) for failure in kernel_log.read(Text(text)).failures]


@pytest.mark.parametrize(
    ("name", "causes", "says"),
    [
        ("vmx-5.10", ("entry-rule-broken", "entry-rule-broken"), ("CS access rights=0xe09b", "CR0=0x80000030")),
        ("vmx-6.1", ("entry-rule-broken", "entry-bad-event"), ("RIP=0x100010100", "0x8000030d")),
        ("vmx-6.1-restricted", ("entry-rule-broken",) * 2, ("RFLAGS=0x2", "DS.limit=0xfffff000")),
        ("vmx-7.3", ("entry-rule-broken",) * 2, ("TR.base=0x8000000000000000", "SS=0x0000 with base 0x12345")),
        ("svm-5.10", ("entry-rule-broken",) * 2, ("CS access rights=0xe09b", "EFER=0x401000")),
        ("svm-6.1", ("entry-rule-broken", "entry-bad-event"), ("CS access rights=0xe09b", "event=0x8000031f")),
        ("svm-7.3", ("entry-rule-broken", "entry-bad-event"), ("CS access rights=0xe09b", "event=0x8000031f")),
    ],
)
def test_a_genuine_dump_is_explained_for_certain(name: str, causes: tuple[str, ...], says: tuple[str, ...]) -> None:
    """What the lab had broken is what the first line says, and nothing is left undecided."""
    found = dumped(name)
    assert [d.findings[0].cause.id for d in found] == list(causes)
    for diagnosis, value in zip(found, says, strict=True):
        best = diagnosis.findings[0]
        assert best.confidence == "certain"
        assert value in diagnosis.findings[0].answer
        assert "27." in best.for_[0] or "APM vol. 2, 15." in best.for_[0]
        assert best.for_[-1].startswith("the other ")


def test_registers_alone_make_it_likely_and_say_what_is_missing() -> None:
    """QEMU's dump shows RFLAGS bit 3: the rule is named; the rest of the VMCS is asked for."""
    cpu = msgspec.structs.replace(LONG64, registers={**LONG64.registers, "rflags": 0xA})
    best = diagnose(refused(cpu)).findings[0]
    assert (best.cause.id, best.cause.family, best.confidence) == ("entry-rule-broken", "invalid-guest-state", "likely")
    assert "RFLAGS=0xa" in best.answer
    assert "could not be checked" in best.for_[-1]
    assert best.advice.host is not None
    assert "dump_invalid_vmcs=1" in best.advice.host


def test_nothing_broken_in_sight_counts_what_is_hidden() -> None:
    """A legal state as QEMU prints it: the rules that need the VMCS are counted, no rule is accused."""
    best = diagnose(refused(LONG64)).findings[0]
    assert (best.cause.id, best.confidence) == ("invalid-guest-state", "possible")
    assert any("could not be checked, for want of" in reason for reason in best.for_)
    assert best.advice.host is not None
    assert "dump_invalid_vmcs=1" in best.advice.host


def test_a_whole_dump_that_breaks_nothing_is_no_verdict() -> None:
    """If every rule holds, the CPU (or who poses as one) refused for a reason of its own."""
    failure = dumped("vmx-7.3")[0].failure
    assert failure.control
    fields = {**failure.control.fields, "guest_tr_base": 0x2000}
    mended = msgspec.structs.replace(failure, control=msgspec.structs.replace(failure.control, fields=fields))
    diagnosis = diagnose(mended)
    assert diagnosis.findings[0].cause.id == "invalid-guest-state"
    assert diagnosis.findings[0].confidence == "possible"
    assert "every rule that kvmwhy knows holds" in diagnosis.findings[0].answer


def test_real_mode_is_not_accused_without_knowing_the_host() -> None:
    """SS.DPL 3 in real mode is refused only with unrestricted guest; otherwise KVM makes it fit. Both are said."""
    best = diagnose(refused(with_segment(REAL16, "cs", Segment(0x1000, 0x10000, 0xFFFF, 0xFB00)))).findings[0]
    assert best.cause.id == "invalid-guest-state"
    assert any("SS.DPL=3" in reason and "unrestricted guest" in reason for reason in best.for_)


def test_amd_is_held_against_amds_rules() -> None:
    """TR unusable or CS.S clear are nothing to VMRUN; CS.L with CS.D is."""
    number = 0xFFFFFFFFFFFFFFFF
    odd = with_segment(LONG64, "tr", Segment(0, 0, 0, 0))
    assert "entry-rule-broken" not in [f.cause.id for f in diagnose(refused(odd, number)).findings]
    assert diagnose(refused(odd)).findings[0].cause.id == "entry-rule-broken"
    both = with_segment(LONG64, "cs", Segment(0x18, 0, 0xFFFFFFFF, 0xE09B00))
    assert diagnose(refused(both, number)).findings[0].cause.id == "entry-rule-broken"


def test_who_made_the_state_comes_first_where_it_is_known() -> None:
    """At an SMI handler's first instruction SMM is the cause, and the broken rule stands behind it."""
    cpu = msgspec.structs.replace(REAL16, registers={**REAL16.registers, "rip": 0x8000, "rflags": 0xA}, smm=True)
    causes = [f.cause.id for f in diagnose(refused(cpu)).findings]
    assert causes[0] == "smm"
    assert "entry-rule-broken" in causes


def test_trouble_of_the_host_outweighs_what_registers_show() -> None:
    """Beside an oops the registers of the guest are no more than a hint."""
    cpu = msgspec.structs.replace(LONG64, registers={**LONG64.registers, "rflags": 0xA})
    host = Host(events=(HostEvent(kind="oops"),))
    found = {f.cause.id: f.confidence for f in diagnose(refused(cpu, host=host)).findings}
    assert found["entry-rule-broken"] == "possible"


def test_a_control_field_is_the_hosts_matter() -> None:
    """A host selector with RPL 3: not the guest, not the VMM; KVM or what is around it."""
    failure = dumped("vmx-6.1")[1].failure
    assert failure.control
    fields = {**failure.control.fields, "host_ds": 0x2B, "vm_entry_interruption_info": 0}
    control = msgspec.structs.replace(failure.control, fields=fields)
    best = diagnose(msgspec.structs.replace(failure, control=control, hardware_error=8)).findings[0]
    assert (best.cause.id, best.cause.family) == ("entry-controls", "outer-hypervisor")
    assert "host DS=0x002b" in best.answer


def test_the_cpus_own_hint_is_passed_on() -> None:
    """Qualification 4 is the VMCS link pointer, which no dump shows: SDM 3C, 27.8."""
    failure = dumped("vmx-7.3")[0].failure
    assert failure.exit
    hinted = msgspec.structs.replace(failure, exit=msgspec.structs.replace(failure.exit, info1=4))
    assert any("link pointer" in reason for reason in diagnose(hinted).findings[0].for_)


def test_interleaved_dumps_are_only_possible() -> None:
    """Values that may be another vCPU's make no certain finding."""
    failure = msgspec.structs.replace(dumped("vmx-6.1")[0].failure, cpu_shared=True)
    assert {f.confidence for f in diagnose(failure).findings} == {"possible"}


@pytest.mark.parametrize("path", sorted(FIXTURES.rglob("qemu.log")), ids=lambda p: p.parent.name)
def test_guests_that_had_run_break_no_rule(path: Path) -> None:
    """Any state that a CPU left the guest with is one that it enters with: all captured dumps, both vendors."""
    for failure in read(path.read_bytes()).failures:
        if failure.cpu is None or not failure.cpu.segments:
            continue
        for error in (0x80000021, 0xFFFFFFFF):
            found = diagnose(refused(failure.cpu, error)).findings
            assert "entry-rule-broken" not in [f.cause.id for f in found]
