"""What an arm64 host shows, on any host: a page, a trace and a check-up that the lab's machine left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kvmwhy.diagnosis import diagnose
from kvmwhy.live import qemu, tracefs
from kvmwhy.live.doctor import arm64, riscv64
from kvmwhy.live.host import cpu_info
from kvmwhy.live.rate_limit import Repeats, key
from kvmwhy.live.staleness import Watched, is_fatal, judge
from kvmwhy.machine.access import points_at
from kvmwhy.readers import read, run_page
from kvmwhy.record import Code, Cpu, Failure, Source
from kvmwhy.reproduce import Cannot
from kvmwhy.reproduce.access import Access, plan_access

CAPTURED = sorted((Path(__file__).parents[1] / "fixtures" / "arm64").iterdir())
HOLE = 0x0D00_0000


@pytest.fixture(params=CAPTURED, ids=[path.name for path in CAPTURED])
def captured(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_the_page_of_an_access_that_was_left_to_the_vmm(captured: Path) -> None:
    """KVM_EXIT_ARM_NISV with its two words; an errno leaves a page without an exit."""
    (failure,) = run_page.read((captured / "nisv.page").read_bytes()).failures
    assert failure.exit_reason == 28
    assert failure.exit_fields == {"esr_iss": 0x5, "fault_ipa": HOLE}
    (failure,) = run_page.read((captured / "plain.page").read_bytes()).failures
    assert (failure.kind, failure.exit_reason) == ("other", 0)


def test_a_vcpu_that_stands_at_such_an_exit_has_stopped(captured: Path) -> None:
    """By five looks at the same page, no thread inside; and it repeats if the page changes in between."""
    page = (captured / "nisv.page").read_bytes()
    plain = (captured / "plain.page").read_bytes()
    assert is_fatal(page)
    assert not is_fatal(plain)
    assert judge(Watched((page,) * 6, False, 0, 0.05), release="7.3").state == "stopped"
    assert judge(Watched((page, plain, page, plain, page), False, 1, 0.05), release="7.3").state == "repeating"


def test_the_trace_tells_both(captured: Path) -> None:
    """ENOSYS, and the exit of the VMM that asked for it: each with PC, syndrome and address."""
    failures = read((captured / "trace.txt").read_bytes()).failures
    assert [(failure.kind, failure.errno, failure.exit_reason) for failure in failures] == [
        ("run-error", "ENOSYS", None),
        ("other", None, 28),
    ]
    for failure in failures:
        assert failure.arch == "arm64"
        assert failure.exit is not None
        assert (failure.exit.reason, failure.exit.info1, failure.exit.info2) == (0x24, 0x92000005, HOLE)
        answer = diagnose(failure).mechanism
        assert answer is not None
        assert answer.id == "emulation-no-handler"


def test_the_events_of_failures_alone_tell_as_much(captured: Path) -> None:
    """Without kvm_exit in the trace, kvm_mmio_nisv has it all: what `kvmwhy watch --history 0` sees."""
    lines = (captured / "trace.txt").read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.startswith("#") or "kvm_mmio_nisv" in line or "kvm_userspace_exit" in line]
    failures = read("".join(kept).encode()).failures
    assert len(failures) == 2
    for failure in failures:
        assert failure.arch == "arm64"
        assert failure.exit is not None
        assert (failure.exit.reason, failure.exit.info1, failure.exit.info2) == (0x24, 0x92000005, HOLE)


def test_what_is_run_again_is_that_access(captured: Path) -> None:
    """A load, at that address, as the VMM had set KVM up."""
    plans = [plan_access(failure) for failure in read((captured / "trace.txt").read_bytes()).failures]
    assert [(plan.setup, plan.expected, plan.address, plan.text) for plan in plans if isinstance(plan, Access)] == [
        ("plain", "ENOSYS", HOLE, "ldp x1, x2, [x0]"),
        ("nisv", "nisv", HOLE, "ldp x1, x2, [x0]"),
    ]
    (efault,) = read(b"error: kvm run failed Bad address\n PC=ffff800008012345 X00=0000000009000000\n").failures
    assert isinstance(plan_access(efault), Cannot)


@pytest.mark.parametrize(
    ("word", "address"),
    [
        (0x3CE26820, 0x0900_0020),  # ldr q0, [x1, x2]
        (0x3CFF6820, 0x0900_0000),  # ldr q0, [x1, xzr]
        (0x3CE27820, None),  # ldr q0, [x1, x2, lsl #4]
        (0x3CE24820, None),  # ldr q0, [x1, w2, uxtw]
        (0x3CE56820, None),  # ldr q0, [x1, x5], and x5 is not shown
    ],
)
def test_the_address_by_registers(word: int, address: int | None) -> None:
    """Base and index as they are; of an index that is shifted, cut or not shown there is no address."""
    failure = Failure(
        kind="run-error",
        arch="arm64",
        errno="ENOSYS",
        cpu=Cpu(registers={"x1": 0x0900_0000, "x2": 0x20}),
        code=Code(tuple(word.to_bytes(4, "little")), 0),
    )
    plan = plan_access(failure)
    assert isinstance(plan, Access)
    assert any("the address is that of the registers" in text for text in plan.assumed) == (address is not None)
    assert plan.address == address or address is None


def test_a_register_that_is_base_and_index_points_nowhere() -> None:
    """ldr x0, [x1, x1] accesses twice the register; of ldr x0, [x1, x2] the index is zero; [sp, xzr] has none."""
    both = (0xF8616820).to_bytes(4, "little")
    assert points_at("arm64", both, HOLE) is None
    plan = plan_access(Failure(kind="run-error", arch="arm64", errno="ENOSYS", code=Code(tuple(both), 0)))
    assert isinstance(plan, Access)
    assert "what is shown at PC cannot be pointed at an address" in plan.assumed[0]
    assert points_at("arm64", (0xF8626820).to_bytes(4, "little"), HOLE) == {"x1": HOLE}
    assert points_at("arm64", (0xF87F6BE0).to_bytes(4, "little"), HOLE) == {"sp_el1": HOLE}


def test_a_loop_is_what_comes_again_and_again(captured: Path) -> None:
    """Counted by the watch; once alone it is none."""
    failure = read((captured / "trace.txt").read_bytes()).failures[1]
    repeats, same = Repeats(), key(failure, 7)
    at = "2026-12-01T00:00:{:02d}.000000+00:00"
    first = msgspec.structs.replace(failure, source=Source(time=at.format(0), vcpu=0))
    assert repeats.told(same, first, 0.0) == []
    for n in range(200):
        assert repeats.again(same, at.format(1), 0.001 * n, (7, float(n)))
    (counted,) = repeats.due(1.0)
    causes = {finding.cause.id for finding in diagnose(counted.failure).findings}
    assert "exit-reentered" in causes
    assert "exit-reentered" not in {finding.cause.id for finding in diagnose(failure).findings}


def test_the_doctor_reads_what_kvm_said_at_its_start(captured: Path) -> None:
    """The mode, from the kernel's own line; capabilities as that KVM answered."""
    (mode,) = arm64.of_mode((captured / "kernel.txt").read_text(), "")
    assert (mode.grade, mode.text) == (
        "good",
        "KVM is built in and runs in VHE mode: the host's kernel runs at EL2 itself",
    )
    checkup = json.loads((captured / "doctor.json").read_text())
    texts = [finding.text for finding in arm64.of_capabilities(checkup["kvm"]["capabilities"], checkup["kernel"])]
    assert set(texts) <= {finding["text"] for finding in checkup["findings"]}
    assert not any(word in json.dumps(checkup) for word in ("kvm_intel", "VMCS", "VT-x", "CPUID"))


# arch/arm64/kvm/arm.c: kvm_arm_init, of 5.10, 6.1 and 7.x; the others as facts of the lab's boots show them.
@pytest.mark.parametrize(
    ("line", "grade", "part"),
    [
        ("kvm [1]: Hyp mode initialized successfully", "note", "nVHE mode: KVM's part at EL2"),
        ("kvm [1]: Protected nVHE mode initialized successfully", "note", "Protected nVHE mode: a protected guest"),
        ("kvm [1]: Protected hVHE mode initialized successfully", "note", "Protected hVHE mode: a protected guest"),
        ("kvm [1]: VHE+NV2 mode initialized successfully", "note", "VHE+NV2 mode: guests may be hypervisors"),
        ("kvm [1]: hVHE mode initialized successfully", "note", "hVHE mode: KVM's part at EL2"),
        ("kvm [1]: HYP mode not available", "bad", "started at EL1"),
        ("", "note", "is not shown"),
    ],
)
def test_every_mode_has_its_words(line: str, grade: str, part: str) -> None:
    """And an unknown one is said to be so."""
    (finding,) = arm64.of_mode(line, "")
    assert finding.grade == grade
    assert part in finding.text


def test_the_doctor_of_riscv64_reads_its_lines() -> None:
    """arch/riscv/kvm/main.c: riscv_kvm_init; cpuinfo of 6.12."""
    lines = "kvm [1]: hypervisor extension available\nkvm [1]: using Sv57x4 G-stage page table format"
    (finding,) = riscv64.of_extension(lines, "isa\t\t: rv64imafdch_zicbom\n")
    assert "mapped by Sv57x4" in finding.text
    (finding,) = riscv64.of_extension("", "isa\t\t: rv64imafdc_zicbom\n")
    assert finding.grade == "bad"
    (finding,) = riscv64.of_extension("kvm [1]: hypervisor extension not available", "")
    assert finding.grade == "bad"
    (finding,) = riscv64.of_extension("", "isa\t\t: rv64imafdch_zicbom\n")
    assert (finding.grade, "is there" in finding.text) == ("good", True)
    for cpuinfo in ("", "processor\t: 0\nmmu\t\t: sv57\n"):
        (finding,) = riscv64.of_extension("", cpuinfo)
        assert (finding.grade, "not shown" in finding.text) == ("note", True)


def test_cpus_of_several_kinds_are_named(tmp_path: Path) -> None:
    """big.LITTLE: a vCPU whose PMU is another kind's cannot be entered (KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED)."""
    text = "".join(
        f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
        for n, part in enumerate(("0xd05", "0xd0a"))
    )
    (tmp_path / "cpuinfo").write_text(text)
    cpu = cpu_info(str(tmp_path / "cpuinfo"))
    assert cpu.model == "implementer 0x41, part 0xd05"
    assert [finding.grade for finding in arm64.of_cpus(cpu, text)] == ["good", "note"]


def test_the_events_of_each_architecture() -> None:
    """x86's filter is what it was; arm64 adds the exits that a VMM may not know, and the event of such an access."""
    x86, arm = tracefs.failures_of("x86"), tracefs.failures_of("arm64")
    assert x86["kvm_userspace_exit"] == (
        "(errno < 0 && errno != -4 && errno != -11) || (errno >= 0 && "
        "(reason == 0 || reason == 1 || reason == 8 || reason == 9 || reason == 17))"
    )
    assert x86["kvm_emulate_insn"] == "failed == 1"
    assert "reason == 28" in str(arm["kvm_userspace_exit"])
    assert set(arm) == {"kvm_userspace_exit", "kvm_mmio_nisv"}
    assert set(tracefs.failures_of("riscv64")) == {"kvm_userspace_exit"}


class OnPaper:
    """The monitor of a QEMU for arm64; the dump is of the format strings in its target/arm: aarch64_cpu_dump_state."""

    DUMP = (
        "\nCPU#0\n PC=ffff800008012344 X00=0000000009000000 X01=0000000000000000\nX02=0000000000000000 "
        "X29=0000000000000000 X30=0000000000000000  SP=ffff80000a003e10\nPSTATE=600003c5 -ZC- EL1h     FPU disabled\n"
    )

    def __init__(self, kind: str = "ram") -> None:
        self.kind = kind
        self.asked: list[str] = []

    def execute(self, command: str, **_: Any) -> Any:
        answers: dict[str, Any] = {
            "query-status": {"status": "internal-error", "running": False},
            "query-version": {"qemu": {"major": 10, "minor": 0, "micro": 2}},
            "query-memory-size-summary": {"base-memory": 1 << 20},
            "query-pci": [],
        }
        return answers[command]

    def human(self, line: str) -> str:
        self.asked.append(line)
        match line.split(maxsplit=1)[0]:
            case "info" if "registers" in line:
                return self.DUMP
            case "info" if "mtree" in line:
                ram = f"  0000000040000000-00000000400fffff (prio 0, {self.kind}): mach-virt.ram"
                return f'FlatView #0\n AS "memory"\n{ram}\n'
            case "gva2gpa":
                return "gpa: 0x40012344\n"
            case "xp":
                count = int(line.split("/")[1].split("x", maxsplit=1)[0])
                return "0000000040012344:" + " 0x01 0x08 0x40 0xa9" * (count // 4) + "\n"
        return ""


@pytest.mark.parametrize("kind", ["ram", "i/o"])
def test_a_monitor_shows_registers_and_the_code_at_pc(kind: str) -> None:
    """QEMU walks the guest's tables itself (gva2gpa); what is no RAM is not read."""
    monitor = OnPaper(kind)
    guest = qemu.view(monitor)
    cpu = guest.cpus[0]
    assert cpu.registers["pc"] == 0xFFFF_8000_0801_2344
    near = qemu.around(monitor, guest, cpu)
    assert near.walks == ()
    if kind == "ram":
        assert near.code is not None
        assert near.code.at_rip()[:4].hex() == "010840a9"
    else:
        assert near.code is None
        assert not any(line.startswith("xp") for line in monitor.asked)
