"""run, reproduce, attach, watch and doctor on a host that is arm64 or riscv64, against what its KVM is known to do."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from kvmwhy.cli.main import kvmwhy
from kvmwhy.diagnosis import diagnose
from kvmwhy.live.host import host_facts
from kvmwhy.live.watch import Seen, Watch

ARM64 = pytest.mark.skipif(platform.machine() != "aarch64", reason="takes a host that is arm64")
RISCV64 = pytest.mark.skipif(platform.machine() != "riscv64", reason="takes a host that is riscv64")
pytestmark = pytest.mark.live

HOLE = 0x0D00_0000
TRACEFS = "/sys/kernel/tracing"
HAS_EVENT = Path(TRACEFS) / "events" / "kvm" / "kvm_mmio_nisv"
LDP = (0xA9400801).to_bytes(4, "little")  # ldp x1, x2, [x0]
FLD = (0x00053587).to_bytes(4, "little")  # fld fa1, 0(a0)
# A VMM: it runs one instruction, says how that ended, and stays; or it enters the guest again and again.
VMM = f"""
import sys, time
from kvmwhy.machine.access import BARE, NISV, host_arch
from kvmwhy.machine.bare_guest import BareGuest
what, code = sys.argv[1], bytes.fromhex(sys.argv[2])
bare = BARE[host_arch()]
with bare.machine() as machine:
    if what != "plain":
        machine.enable(NISV)
    guest = BareGuest(bare.isa, code, regs={{bare.isa.saved[0]: {HOLE}}})
    vcpu = guest.load(machine)
    print(guest.run(vcpu, timeout=2).how, flush=True)
    end = time.monotonic() + 1.5
    while what == "loop" and time.monotonic() < end:
        vcpu.run(1)
    if what != "loop":
        time.sleep(300)
"""


@contextmanager
def vmm(what: str, code: bytes) -> Iterator[subprocess.Popen[str]]:
    """A VMM of another process, whose guest has stopped."""
    with subprocess.Popen(
        [sys.executable, "-c", VMM, what, code.hex()], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() in {"errno", "exit"}
        try:
            yield process
        finally:
            process.kill()


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(kvmwhy, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def records(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


# -- run and reproduce -------------------------------------------------------------------------------


@ARM64
def test_run_explains_an_access_without_a_syndrome(tmp_path: Path) -> None:
    """KVM_RUN fails with ENOSYS; with --nisv it exits. Registers and code are those of the instruction."""
    image = tmp_path / "ldp.bin"
    image.write_bytes(LDP)
    for extra, kind in (((), "run-error"), (("--nisv",), "other")):
        status, output = invoke("run", str(image), "--reg", f"x0={HOLE:#x}", "--json", *extra)
        record = records(output)[-1]
        assert status == 0
        assert record["arch"] == "arm64"
        assert record["kind"] == kind
        assert record["mechanism"]["id"] == "emulation-no-handler"  # type: ignore[index]
        assert record["cpu"]["pc"] == "0x40001000"  # type: ignore[index]
    image.write_bytes((0xF9400001).to_bytes(4, "little") + (0xD4200000).to_bytes(4, "little"))  # ldr; brk
    status, output = invoke("run", str(image), "--reg", f"x0={HOLE:#x}")
    assert status == 0
    assert f"MMIO read of 8 at {HOLE:#x}" in output
    assert "The guest took BRK (ESR_EL1 0xf2000000) at 0x40001004" in " ".join(output.split())


@ARM64
@pytest.mark.parametrize(
    "arguments", [("run", "IMAGE", "--cpl", "3"), ("run", "IMAGE", "--cap204"), ("probe", "--mode", "real16")]
)
def test_options_of_x86_are_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """In one sentence, status 2."""
    image = tmp_path / "ldp.bin"
    image.write_bytes(LDP)
    status, output = invoke(*(str(image) if text == "IMAGE" else text for text in arguments))
    assert status == 2
    assert "is for x86, and this is arm64" in output


@ARM64
def test_run_of_an_x86_mode_says_what_it_takes(tmp_path: Path) -> None:
    """--on kvm with a mode of x86."""
    image = tmp_path / "ldp.bin"
    image.write_bytes(LDP)
    status, output = invoke("run", str(image), "--mode", "long64", "--on", "kvm")
    assert status == 3
    assert "this host is arm64, and its KVM runs no x86 guests" in output


NISV_TRACE = """\
# tracer: nop
 vcpu0-120     [000] .....     6.530110: kvm_entry: PC: 0x0000000040001000
 vcpu0-120     [000] d....     6.530123: kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0x0000000040001000
 vcpu0-120     [000] .....     6.530124: kvm_guest_fault: ipa 0x9000000, hsr 0x92000045, hxfar 0x9000000, pc 0x40001000
 vcpu0-120     [000] .....     6.530124: kvm_mmio_nisv: ipa 0x00000009000000, esr 0x00000092000045, far 0x9000000, pc 0
 vcpu0-120     [000] .....     6.530126: kvm_userspace_exit: reason error (38)
"""


@ARM64
def test_reproduce_runs_the_access_of_a_trace_again(tmp_path: Path) -> None:
    """The address and the direction are the trace's; the instruction is a stand-in, and that is said."""
    trace = tmp_path / "nisv.trace"
    trace.write_text(NISV_TRACE)
    status, output = invoke("reproduce", str(trace), "--json")
    (outcome,) = records(output)
    assert status == 0
    assert outcome["status"] == "reproduced"
    assert "stp x1, x2, [x0] at 0x9000000" in str(outcome["answer"])
    assert [row["here"].split(",")[0] for row in outcome["rows"]] == [  # type: ignore[attr-defined]
        "KVM_RUN fails with ENOSYS",
        "KVM_EXIT_ARM_NISV",
        "the guest takes a data abort",
    ]
    assert any("stands for it" in text for text in outcome["assumed"])  # type: ignore[attr-defined]


@RISCV64
def test_run_explains_an_access_that_kvm_does_not_decode(tmp_path: Path) -> None:
    """FLD outside RAM: EOPNOTSUPP."""
    image = tmp_path / "fld.bin"
    image.write_bytes(FLD)
    status, output = invoke("run", str(image), "--reg", f"a0={HOLE:#x}", "--json")
    record = records(output)[-1]
    assert status == 0
    assert (record["arch"], record["errno"]) == ("riscv64", "EOPNOTSUPP")
    assert record["cpu"]["pc"] == "0x80001000"  # type: ignore[index]


# -- attach, watch, doctor -----------------------------------------------------------------------------


@ARM64
def test_attach_reads_the_page_of_a_vmm_that_was_left_an_access() -> None:
    """KVM_EXIT_ARM_NISV with its syndrome and address."""
    with vmm("nisv", LDP) as process:
        status, output = invoke("attach", str(process.pid), "--json")
    (record,) = records(output)
    assert status == 0
    assert (record["arch"], record["exit_reason"]) == ("arm64", 28)
    assert record["exit_fields"] == {"esr_iss": "0x5", "fault_ipa": hex(HOLE)}
    assert record["mechanism"]["id"] == "emulation-no-handler"  # type: ignore[index]


@pytest.mark.skipif(platform.machine() not in {"aarch64", "riscv64"}, reason="takes a host that is arm64 or riscv64")
def test_attach_says_that_an_errno_leaves_no_exit() -> None:
    """KVM_RUN's errno is in no page: what is said is where it can be had."""
    with vmm("plain", LDP if platform.machine() == "aarch64" else FLD) as process:
        status, output = invoke("attach", str(process.pid))
    assert status == 1
    text = " ".join(output.split())
    assert "no exit: it has not run, or KVM_RUN failed with an errno, which `kvmwhy watch` sees" in text


def watched(*runs: tuple[str, bytes], history_kib: int = 0, seconds: float = 3.0) -> list[Seen]:
    """What a watch sees while these VMMs run."""
    seen: list[Seen] = []
    with Watch(TRACEFS, host_facts(), history_kib=history_kib, prefix="kvmwhy-test-") as watch:
        for what, code in runs:
            with vmm(what, code) as process:
                end = time.monotonic() + seconds
                while time.monotonic() < end and process.poll() is None:
                    seen += watch.poll(0.1)
        seen += watch.finish()
    return seen


@ARM64
@pytest.mark.parametrize("history_kib", [0, 64])
def test_watch_sees_where_the_access_was(history_kib: int) -> None:
    """ENOSYS with PC, syndrome and address; since 6.7 by an event of its own, as no line of the log has them any more.

    Before, kvm_guest_fault has them, and it comes for every page that is touched: only a watch with a history has it.
    """
    seen = watched(("plain", LDP), history_kib=history_kib, seconds=1.5)
    (failure,) = (one.failure for one in seen)
    assert (failure.kind, failure.errno, failure.arch) == ("run-error", "ENOSYS", "arm64")
    if history_kib or HAS_EVENT.is_dir():
        assert failure.exit is not None
        assert (failure.exit.reason, failure.exit.info1, failure.exit.info2) == (0x24, 0x92000005, HOLE)
        assert failure.cpu is not None
        assert failure.cpu.registers["pc"] == 0x4000_1000
    mechanism = diagnose(failure).mechanism
    assert mechanism is not None
    assert mechanism.id == "emulation-no-handler"


@ARM64
def test_watch_finds_a_vmm_that_enters_again_and_again() -> None:
    """The exit is told once, then counted, and the count is what makes it an endless loop."""
    seen = watched(("loop", LDP), seconds=4.0)
    failures = [one.failure for one in seen]
    assert {failure.exit_reason for failure in failures} == {28}
    assert {failure.arch for failure in failures} == {"arm64"}
    assert sum(failure.source.count for failure in failures) > 100
    # The page is read while the VMM goes round: at times KVM_RUN has begun again, and cleared it.
    assert all(failure.exit_fields in ({}, {"esr_iss": 0x5, "fault_ipa": HOLE}) for failure in failures)
    counted = max(failures, key=lambda failure: failure.source.count)
    assert "exit-reentered" in {finding.cause.id for finding in diagnose(counted).findings}
    assert "exit-reentered" not in {finding.cause.id for finding in diagnose(failures[0]).findings}


@RISCV64
def test_watch_sees_the_errno_and_the_cause() -> None:
    """EOPNOTSUPP; with a history also SCAUSE and the guest physical address."""
    seen = watched(("plain", FLD), history_kib=64, seconds=1.5)
    (failure,) = (one.failure for one in seen)
    assert (failure.kind, failure.errno, failure.arch) == ("run-error", "EOPNOTSUPP", "riscv64")
    assert failure.exit is not None
    assert (failure.exit.reason, failure.exit.info2) == (21, HOLE)


@ARM64
def test_doctor_knows_arm64() -> None:
    """Mode, IPA bits, capabilities, GIC; nothing of x86."""
    status, output = invoke("doctor", "--json")
    (checkup,) = records(output)
    assert status == 0
    texts = [finding["text"] for finding in checkup["findings"]]  # type: ignore[attr-defined]
    assert any("mode" in text for text in texts)
    assert any("guest physical addresses may have" in text for text in texts)
    assert any("GICv3" in text for text in texts)
    assert not any(word in text for text in texts for word in ("kvm_intel", "VT-x", "VMCS", "vmx"))
    names = checkup["kvm"]["capabilities"]  # type: ignore[index]
    assert names["KVM_CAP_ARM_NISV_TO_USER"] == 1
    assert not any("X86" in name or "CPUID" in name for name in names)


@RISCV64
def test_doctor_knows_riscv64() -> None:
    """The hypervisor extension; nothing of x86."""
    status, output = invoke("doctor", "--json")
    (checkup,) = records(output)
    assert status == 0
    texts = [finding["text"] for finding in checkup["findings"]]  # type: ignore[attr-defined]
    assert any("hypervisor extension is there" in text for text in texts)
    assert not any(word in text for text in texts for word in ("kvm_intel", "VT-x", "VMCS", "vmx"))
