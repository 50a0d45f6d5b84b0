"""Ctrl-C while the model runs a guest."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvmwhy.machine.model.interruptible import interruptible


@pytest.mark.parametrize("code", ["eb fe", "e4 80 eb fc"], ids=["loop", "ports"])
def test_a_guest_that_never_ends_is_interrupted(code: str, tmp_path: Path) -> None:
    """Status 130 and no traceback, where the signal meets Unicorn alone and where it meets its hooks."""
    pytest.importorskip("unicorn")
    (tmp_path / "guest.bin").write_bytes(bytes.fromhex(code))
    command = [sys.executable, "-m", "kvmwhy", "run", str(tmp_path / "guest.bin"), "--on", "model", "--timeout", "40"]
    # A shell's background job ignores the signal, and whatever it starts would, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdout
        assert b"model of KVM" in process.stdout.readline()
        time.sleep(0.5)  # the guest runs by then; if it does not yet, the claim is the same
        process.send_signal(signal.SIGINT)
        output = process.stdout.read()
    assert process.returncode == 130
    assert b"Traceback" not in output
    assert b"Exception" not in output


def test_what_the_work_raises_is_raised() -> None:
    """In the main thread and in any other."""

    def fail() -> None:
        raise ValueError("of the work")

    caught: list[str] = []

    def call() -> None:
        try:
            interruptible(fail, lambda: None)
        except ValueError as error:
            caught.append(str(error))

    call()
    other = threading.Thread(target=call)
    other.start()
    other.join()
    assert caught == ["of the work"] * 2
