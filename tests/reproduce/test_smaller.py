"""Leaving out what is not needed, and one plan on many kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvmwhy.abi.encode_page import ExitInfo
from kvmwhy.machine import Machine
from kvmwhy.readers import read
from kvmwhy.record import Failure
from kvmwhy.reproduce import Plan, plan, run
from kvmwhy.reproduce.matrix import answer, matrix, vendors_of
from kvmwhy.reproduce.minimise import minimise, reaches
from reproduce.test_plan import failure

FIXTURES = Path(__file__).parents[1] / "fixtures"

pytest.importorskip("unicorn", reason="the model needs the package unicorn")


def model(kernel: str, vendor: str) -> Callable[[], Machine]:
    from kvmwhy.machine.model import Model

    return lambda: Model(kernel, vendor)  # type: ignore[arg-type]


def planned(found: Failure) -> Plan:
    made = plan(found)
    assert isinstance(made, Plan)
    return made


def test_minimise_keeps_the_record_and_the_operand() -> None:
    """Everything that was left out was needless: the smaller guest's record is the same, word for word."""
    registers = {"rip": 0x400000, "rbx": 0x700000, "rcx": 5, "rdx": 6, "r15": 0x1234, "rflags": 0x246}
    made = planned(failure(b"\xd9\x03", registers, ExitInfo(0x30, 0x181)))
    make = model("6.1", "vmx")
    found = minimise(made, make)
    with make() as one, make() as two:
        assert run(found.plan, one).words == run(made, two).words
    assert found.plan.regs.rbx == 0x700000
    assert (found.plan.regs.rcx, found.plan.regs.r15, found.plan.regs.rflags) == (0, 0, 2)
    assert {"RCX", "RDX", "R15"} <= set(found.dropped)
    assert reaches(found.plan) == reaches(made)
    assert len(found.plan.contents) < len(made.contents)
    # The code's page, three tables that code and operand share (they are 3 MiB apart), and a last table for each.
    assert sum(m.size for m in found.plan.memory) == 0x1000 * (1 + 3 + 2)


def test_minimise_twice_is_minimise_once() -> None:
    """What is left is all needed."""
    make = model("6.1", "svm")
    made = planned(failure(b"\xd9\x1b", {"rip": 0x400000, "rbx": 0x700000}, ExitInfo(0x400, 0x1_0000_0006, 0x700000)))
    once = minimise(made, make).plan
    again = minimise(once, make)
    assert again.plan == once
    assert again.dropped == ()


def test_matrix_of_an_avx_move() -> None:
    """VEX moves were handled from 6.19 on: the table of kernels turns there, and nowhere else."""
    made = planned(
        failure(bytes.fromhex("c5fe6f03"), {"rip": 0x400000, "rbx": 0x700000, "cr4": 0x40620}, ExitInfo(0x30, 0x181))
    )
    assert vendors_of(made) == ("vmx",)
    spans = list(matrix(made, ("vmx",), ("5.10", "6.1", "6.18", "6.19", "7.3")))
    assert [(s.first, s.last, s.reproduced) for s in spans] == [("5.10", "6.18", True), ("6.19", "7.3", False)]
    assert "MMIO read" in spans[1].what
    assert answer(spans) == "vmx: fails on 5.10–6.18, not on 6.19–7.3"


@pytest.mark.parametrize("name", ["qemu-6.1", "qemu-7.3"])
def test_genuine_svm_logs_come_out_word_for_word(name: str) -> None:
    """Logs of QEMU on kvm-amd under emulation: the model of that kernel says the same, EXITINFO included."""
    from kvmwhy.machine.model import Model
    from kvmwhy.reproduce import Where, compare

    directory = FIXTURES / "lab-svm" / name
    checked = 0
    for path in sorted(directory.glob("*/qemu.log")):
        for found in read(path.read_bytes()).failures:
            made = plan(found)
            if not isinstance(made, Plan):
                continue
            kernel = name.removeprefix("qemu-")
            with Model(kernel, "svm", bench="tcg") as machine:
                outcome = compare(made, run(made, machine), Where(name, kernel, "svm"))
            assert outcome.status == "reproduced", (path.name, outcome.answer)
            assert outcome.exact, (path.name, outcome.rows)
            checked += 1
    assert checked
