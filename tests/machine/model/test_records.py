"""The model against genuine kvm-amd payloads: kernels 5.10, 6.1, 6.12 and 7.3 under QEMU's SVM."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("unicorn")

from kvmwhy.machine import Exit, Guest, InternalError, Mmio, Mode, Vcpu, replace
from kvmwhy.machine.model import Model

RECORDS = Path(__file__).parents[2] / "fixtures" / "lab-svm" / "records.jsonl"
HOLE = 0xD0000000
REAL_HOLE = 0xD0000
MODES: dict[str, Mode] = {"l": "long64", "p": "prot32", "r": "real16", "d": "long64", "u": "long64"}
USER_FILL = bytes.fromhex("e6 ee") + b"\x90" * 16  # what stands behind the instruction there; else HLT
EXCEPTIONS: dict[str, str] = {}  # case: why the model may differ. None does.


def _records() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]


def _guest(record: dict[str, Any]) -> Guest:
    case = record["case"]
    mode = MODES[case[0]]
    return Guest(
        mode,
        bytes.fromhex(record["bytes"]) + (USER_FILL if case[0] == "u" else b""),
        cpl=3 if case[0] == "u" else 0,
        # RAX as the lab's VMM sets it: XSAVE's mask, whose low bits (x87, SSE, AVX) are clear
        regs={"rbx": 0 if mode == "real16" else HOLE, "rax": 0x55667788},
        mmio=((REAL_HOLE, 0x1000),) if mode == "real16" else (),
        idt=(HOLE, 0xFFF) if case[0] == "d" else None,
        xcr0=7 if "xsave" in case or "vmov" in case else 0,
    )


def _run(vcpu: Vcpu) -> tuple[Exit, int]:
    exits = 0
    while isinstance(found := vcpu.run(timeout=5), Mmio):
        exits += 1
        if not found.is_write:
            vcpu.complete(bytes(found.len))
    return found, exits


@pytest.mark.parametrize("record", _records(), ids=lambda record: f"{record['kernel']}-{record['case']}")
def test_payload_is_that_of_the_kernel(record: dict[str, Any]) -> None:
    """Suberror, ndata, every data word, RIP and the number of MMIO exits before are those recorded."""
    assert record["case"] not in EXCEPTIONS
    guest = _guest(record)
    with Model(record["kernel"], "svm", bench="tcg") as machine:
        if record["case"].endswith("cap204"):
            machine.enable("KVM_CAP_EXIT_ON_EMULATION_FAILURE", 1)
        vcpu = guest.load(machine)
        if guest.mode == "real16":
            sregs = vcpu.get_sregs()
            vcpu.set_sregs(replace(sregs, ds=replace(sregs.ds, base=REAL_HOLE, selector=REAL_HOLE >> 4)))
        found, exits = _run(vcpu)
        if record["case"].endswith("again"):
            guest.restart(vcpu)
            found, exits = _run(vcpu)
        assert isinstance(found, InternalError)
        assert (found.suberror, found.ndata) == (record["suberror"], record["ndata"])
        assert [hex(word) for word in found.words] == record["data"]
        assert (hex(vcpu.get_regs().rip), exits) == (record["rip"], record["mmio_exits_before"])


def test_there_are_records_of_four_kernels() -> None:
    """The comparison above covers 5.10, 6.1, 6.12 and 7.3, with more than fifty records."""
    kernels = {record["kernel"].split(".0-")[0][:4].rstrip(".") for record in _records()}
    assert kernels == {"5.10", "6.1", "6.12", "7.3"}
    assert len(_records()) > 50
