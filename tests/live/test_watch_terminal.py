"""What `kvmwhy watch` shows a person: text on a terminal, JSON where a program reads."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from watching import NAME, run_vmm

pytestmark = pytest.mark.live


def read_all(terminal: int, text: bytearray) -> None:
    """Until the other end is closed."""
    with suppress(OSError):
        while more := os.read(terminal, 65536):
            text += more


def shown(vmm: Path, tracefs: Path, *options: str) -> tuple[str, str, int]:
    """What a watch writes on its terminal while a guest fails, what on its standard error, and the guest's thread."""
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "kvmwhy", "watch", "--tracefs", str(tracefs), "--name", NAME, *options]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=inside, stderr=subprocess.PIPE, text=True, env=environment) as watching:
        os.close(inside)
        assert watching.stderr is not None
        said = watching.stderr.readline()
        while "watching every vCPU" not in said:
            said = watching.stderr.readline()
        (thread,) = run_vmm(vmm, "prot32", runs=3)
        text = bytearray()
        reading = Thread(
            target=read_all, args=(terminal, text)
        )  # to the end: what a terminal does not take at once waits
        reading.start()
        deadline = time.monotonic() + 20
        while b"times more" not in text and text.count(b"}\r\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        watching.terminate()
        said += watching.communicate(timeout=20)[1]
    reading.join()
    os.close(terminal)
    return text.decode().replace("\r\n", "\n"), said, thread


def test_a_terminal_gets_text(vmm: Path, tracefs: Path) -> None:
    """Who, both answers and what to do; what came again is one line; nothing of it twice on the standard error."""
    text, said, _ = shown(vmm, tracefs)
    assert "{" not in text
    flat = " ".join(text.split())
    assert "KVM's emulator has no handler for `fld dword ptr [ebx]`" in flat
    assert "Whose doing" in flat
    assert "2 times more" in flat
    assert "records go to this terminal" in said
    assert "no handler" not in said
    assert "stopped: 2 records written" in said


def test_json_can_be_had_there(vmm: Path, tracefs: Path) -> None:
    """--json: the same lines as in a pipe."""
    text, _, thread = shown(vmm, tracefs, "--json")
    items = [json.loads(line) for line in text.splitlines()]
    items = [
        item for item in items if int(item["source"]["writer"].split()[1]) == thread
    ]  # other tests' guests fail, too
    assert sum(item["source"]["count"] for item in items) == 3
