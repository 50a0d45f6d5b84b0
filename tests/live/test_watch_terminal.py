"""What `kvmwhy watch` shows a person: text on a terminal, JSON where a program reads."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from watching import NAME, PATIENCE, Held

pytestmark = pytest.mark.live


def read_all(terminal: int, text: bytearray) -> None:
    """Until the other end is closed."""
    with suppress(OSError):
        while more := os.read(terminal, 65536):
            text += more


def shown(vmm: Path, tracefs: Path, complete: Callable[[str, int], bool], *options: str) -> tuple[str, str, int]:
    """What a watch writes on its terminal until that is complete, on its standard error, and the VMM's process.

    Other guests of this host fail meanwhile (other tests', other people's): only our VMM's lines can be counted on.
    """
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "kvmwhy", "watch", "--tracefs", str(tracefs), "--name", NAME, *options]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=inside, stderr=subprocess.PIPE, text=True, env=environment) as watching:
        os.close(inside)
        assert watching.stderr is not None
        said = watching.stderr.readline()
        while "watching every vCPU" not in said:
            said = watching.stderr.readline()
        text = bytearray()
        reading = Thread(
            target=read_all, args=(terminal, text)
        )  # to the end: what a terminal does not take at once waits
        reading.start()
        with Held(vmm, "prot32", runs=3) as held:
            deadline = time.monotonic() + PATIENCE
            while not complete(text.decode(errors="replace"), held.pid) and time.monotonic() < deadline:
                time.sleep(0.05)
        watching.terminate()
        said += watching.communicate(timeout=PATIENCE)[1]
    reading.join()
    os.close(terminal)
    return text.decode().replace("\r\n", "\n"), said, held.pid


def flat(text: str) -> str:
    return " ".join(text.split())


def came_again(text: str, pid: int) -> bool:
    return f"vmm (process {pid}) vCPU 0: 2 times more" in flat(text)


def failures(text: str, pid: int) -> int:
    """How often this process's vCPU failed, by the whole lines of JSON."""
    sources = [json.loads(line)["source"] for line in text[: text.rfind("\n") + 1].splitlines()]
    return sum(source["count"] for source in sources if source["path"] == f"process {pid}")


def test_a_terminal_gets_text(vmm: Path, tracefs: Path) -> None:
    """Who, both answers and what to do; what came again is one line; nothing of it twice on the standard error."""
    text, said, pid = shown(vmm, tracefs, came_again)
    assert "{" not in text
    ours = flat(text[text.index(f"vmm (process {pid}) vCPU 0") :])
    assert "KVM's emulator has no handler for `fld dword ptr [ebx]`" in ours
    assert "Whose doing" in ours
    assert came_again(text, pid)
    assert "records go to this terminal" in said
    assert "no handler" not in said
    written = re.search(r"stopped: (\d+) records written", said)
    assert written, said
    assert int(written[1]) >= 2


def test_json_can_be_had_there(vmm: Path, tracefs: Path) -> None:
    """--json: the same lines as in a pipe."""
    text, _, pid = shown(vmm, tracefs, lambda text, pid: failures(text, pid) >= 3, "--json")
    assert failures(text, pid) == 3
