"""How a guest came to its triple fault, with QEMU's own emulator as the referee: it logs each exception."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from guests.undeliverable import GUESTS, Undeliverable
from kvmwhy.arch.x86.exception_delivery import chain, is_shutdown
from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from needs import missing

QEMU = "qemu-system-x86_64"


def logged(guest: Undeliverable, place: Path) -> bytes:
    """What `-d int,cpu_reset` writes until the guest shuts down."""
    image, log = place / "guest.bin", place / "int.log"
    image.write_bytes(guest.image)
    command = [QEMU, "-accel", "tcg", "-cpu", "qemu64", "-m", "16M", "-nodefaults", "-display", "none", "-no-reboot"]
    command += ["-bios", str(image), "-d", "int,cpu_reset", "-D", str(log)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return log.read_bytes()


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)
def test_the_tables_tell_what_the_cpu_does(guest: Undeliverable, tmp_path: Path) -> None:
    """From the first exception, the registers and the memory: the exceptions that follow, as they were logged."""
    if shutil.which(QEMU) is None:
        missing("live", f"no {QEMU}")
    (failure,) = read(logged(guest, tmp_path)).failures
    assert failure.cpu is not None
    predicted = chain(failure.faults[0], failure.cpu, guest.read)
    assert [fault.vector for fault in predicted] == [fault.vector for fault in failure.faults]
    assert predicted[0].broken == guest.broken
    assert is_shutdown(predicted)
    for fault, seen in zip(predicted, failure.faults, strict=True):
        assert fault.cr2 == seen.cr2
    diagnosis = diagnose(failure)
    assert diagnosis.mechanism is not None
    assert diagnosis.mechanism.id == "triple-fault"
    assert diagnosis.origins[0].id == "guest-code"
    assert "#UD" in diagnosis.answer
