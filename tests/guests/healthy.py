"""Guests that do not fail, and QEMUs in all the states in which a host's VMs are found: nothing here is a failure.

Each image is 64 KiB of firmware whose code runs in real mode from f000:0000 for as long as QEMU lives.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from guests import boot, qemu

PATIENCE = 20.0  # seconds, for what takes a tenth of one


def _firmware(code: str) -> bytes:
    image = bytearray(b"\xf4" * boot.IMAGE_SIZE)
    image[0xFFF0:0xFFF5] = b"\xea" + struct.pack("<HH", 0, 0xF000)  # the reset vector: jmp f000:0
    image[: len(bytes.fromhex(code))] = bytes.fromhex(code)
    return bytes(image)


SPIN = _firmware("eb fe")  # jmp .
HALT = _firmware("fa f4 eb fd")  # cli; hlt; jmp to the hlt
PORTS = _firmware("e4 60 eb fc")  # in al, 0x60; again
DEVICE = _firmware("b8 00 a0 8e d8 a1 00 00 eb fb")  # ds = the VGA's window; mov ax, [0]; again
RAM_WRITER = _firmware("b8 00 20 8e d8 40 a3 00 00 e4 60 eb f8")  # ds = 0x2000; inc ax; mov [0], ax; in al, 0x60; again
RESET = _firmware("b9 00 04 e2 fe b0 fe e6 64 eb fe")  # count down, then reset through the keyboard controller; spin
TRIPLE = boot.GUESTS["prot32-triple-fault"].image  # as some systems reboot


class State(NamedTuple):
    """A QEMU as it may be met on a healthy host."""

    name: str
    image: bytes
    vcpus: int = 1
    commands: tuple[dict[str, Any], ...] = ()  # of QMP, once it runs
    options: tuple[str, ...] = ()  # of QEMU
    statuses: frozenset[str] = frozenset({"running"})  # what QMP may say then


_PAUSED = frozenset({"paused", "prelaunch"})  # QEMU calls a guest that was reset while it was paused prelaunch
_STOP = ({"execute": "stop"},)
_MIGRATE = ({"execute": "migrate", "arguments": {"uri": "exec:cat >/dev/null"}},)
_SLOWLY: dict[str, Any] = {"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 10_000}}
STATES = (
    State("spinning", SPIN),
    State("spinning-smp", SPIN, vcpus=2),
    State("halted", HALT),
    State("ports", PORTS),
    State("ports-smp", PORTS, vcpus=2),
    State("device", DEVICE),
    State("device-smp", DEVICE, vcpus=2),
    State("resetting", RESET),
    State("rebooting-by-triple-fault", TRIPLE),
    State("paused-spinning", SPIN, commands=_STOP, statuses=_PAUSED),
    State("paused-halted", HALT, commands=_STOP, statuses=_PAUSED),
    State("paused-ports-smp", PORTS, vcpus=2, commands=_STOP, statuses=_PAUSED),
    State("paused-device", DEVICE, commands=_STOP, statuses=_PAUSED),
    State("paused-resetting", RESET, commands=_STOP, statuses=_PAUSED),
    State("migrated", DEVICE, commands=_MIGRATE, statuses=frozenset({"postmigrate"})),
    State("migrated-ports", PORTS, commands=_MIGRATE, statuses=frozenset({"postmigrate"})),
    State("migrating", RAM_WRITER, commands=(_SLOWLY, *_MIGRATE)),
    State("waiting-for-migration", PORTS, options=("-incoming", "defer"), statuses=frozenset({"inmigrate"})),
    State("not-started", PORTS, vcpus=2, options=("-S",), statuses=frozenset({"prelaunch"})),
    State("reset-while-paused", PORTS, commands=(*_STOP, {"execute": "system_reset"}), statuses=_PAUSED),
)


class Running(NamedTuple):
    process: subprocess.Popen[bytes]
    monitor: Path
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def run(
    image: bytes, directory: Path, *, vcpus: int = 1, memory: str = "16M", options: tuple[str, ...] = ()
) -> Iterator[Running]:
    """A QEMU that resets its guest when that asks for it, and ends with this context."""
    name = f"{time.monotonic_ns():x}"
    firmware, monitor, log = (directory / f"{name}{end}" for end in (".bin", ".qmp", ".log"))
    firmware.write_bytes(image)
    command = qemu.command_for(firmware, monitor, memory)
    command[command.index("-smp") + 1] = str(vcpus)
    command[command.index("-action") + 1] = "reboot=reset,shutdown=pause,panic=pause"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
    try:
        yield Running(process, monitor, log)
    finally:
        process.kill()
        process.wait()
        firmware.unlink()


@contextmanager
def run_state(state: State, directory: Path) -> Iterator[Running]:
    """A QEMU in this state."""
    with run(state.image, directory, vcpus=state.vcpus, options=state.options) as running:
        wait_until(running, {"running", "inmigrate", "prelaunch"})
        time.sleep(0.1)
        for command in state.commands:
            ask(running, command)
        wait_until(running, state.statuses)
        yield running


def ask(running: Running, command: dict[str, Any]) -> Any:
    """One command of QMP, on a connection of its own: kvmwhy may want the next one."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(running.monitor))
        with connection.makefile("rwb") as channel:
            channel.readline()  # the greeting
            for request in ({"execute": "qmp_capabilities"}, command):
                channel.write(json.dumps(request).encode() + b"\n")
                channel.flush()
                while "return" not in (answer := json.loads(channel.readline())):
                    assert "error" not in answer, answer
    return answer["return"]


def wait_until(running: Running, statuses: AbstractSet[str]) -> str:
    deadline = time.monotonic() + PATIENCE
    status = "none yet"
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            status = str(ask(running, {"execute": "query-status"})["status"])
            if status in statuses:
                return status
        assert running.process.poll() is None, running.log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"QEMU is {status}, not one of {sorted(statuses)}")
