"""Whole guests on the model: firmware images from the reset vector on, through every mode switch.

The same images ran under QEMU on real kvm-amd modules of 5.10, 6.1 and 7.3; their ``kvm_run`` pages are
what the model is compared with.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("unicorn")

from guests import boot
from kvmwhy.abi.kvm_run import EXIT_INTERNAL_ERROR, UNION, RunPage, decode_page
from kvmwhy.machine import Exit, Io, Mmio, TimedOut
from kvmwhy.machine.model import Model

FIXTURES = Path(__file__).parents[2] / "fixtures" / "lab-svm"
INSIDE_KVM_RUN = 0  # the page's exit reason while a vCPU runs: the guest never came out
VGA, BIOS, FLASH, LOW, HIGH = 0xA0000, 0xF0000, 0xFFFF0000, 0x100000, 15 << 20
MOST_EXITS = 20
PATIENCE = 0.2


class Ran(NamedTuple):
    kernel: str
    name: str
    page: Path


def _fixtures() -> list[Ran]:
    found = []
    for kernel in ("5.10", "6.1", "7.3"):
        for name in boot.GUESTS:
            page = FIXTURES / f"qemu-{kernel}" / name / "kvm_run.page"
            if page.exists():
                found.append(Ran(kernel, name, page))
    return found


def _run(machine: Model) -> tuple[Exit, bytes]:
    """Until the guest has ended: QEMU answers every MMIO read and ignores every write."""
    vcpu = machine.create_vcpu()
    vcpu.set_cpuid(machine.supported_cpuid())
    for _ in range(MOST_EXITS):
        found = vcpu.run(timeout=PATIENCE)
        if not isinstance(found, Mmio):
            break
        if not found.is_write:
            vcpu.complete(bytes(found.len))
    return found, vcpu.page()


def _payload(page: RunPage) -> bytes:
    """The words that count, as bytes."""
    ndata = page.payload["ndata"]
    assert isinstance(ndata, int)
    return page.raw[: 8 + 8 * ndata]


@pytest.mark.parametrize("ran", _fixtures(), ids=lambda ran: f"{ran.kernel}-{ran.name}")
def test_firmware_ends_as_on_the_kernel(ran: Ran) -> None:
    """The same exit; for an internal error the same payload, byte for byte."""
    real = decode_page(ran.page.read_bytes())
    image = boot.GUESTS[ran.name].image
    with Model(ran.kernel, "svm", bench="tcg") as machine:
        machine.add_memory(0, VGA)
        machine.add_memory(0xC0000, BIOS - 0xC0000)
        machine.add_memory(BIOS, len(image), data=image)
        machine.add_memory(LOW, HIGH)
        machine.add_memory(FLASH, len(image), readonly=True, data=image)
        found, page = _run(machine)
    if real.exit_reason == INSIDE_KVM_RUN:
        assert isinstance(found, TimedOut)
        return
    modelled = decode_page(page)
    assert modelled.name == real.name
    if real.exit_reason == EXIT_INTERNAL_ERROR:
        assert _payload(modelled) == _payload(real)
    elif isinstance(found, Io):
        assert page[UNION : UNION + 8] == ran.page.read_bytes()[UNION : UNION + 8]


def test_there_are_guests_of_three_kernels() -> None:
    """The comparison above covers 5.10, 6.1 and 7.3, with more than sixty guests."""
    assert {ran.kernel for ran in _fixtures()} == {"5.10", "6.1", "7.3"}
    assert len(_fixtures()) > 60
