"""Runs one guest under QEMU on /dev/kvm and takes what KVM left behind, from both sides of QEMU.

QEMU prints its dump to stderr; the same words are in the vCPU's `kvm_run` page, which is mapped into
the QEMU process and is read from there while the VM is paused.
"""

import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

QEMU = "qemu-system-x86_64"
CPU = "host,arch-capabilities=off"  # kvm_pvm offers the MSR but refuses QEMU's value of it
KVM = Path("/dev/kvm")
PAGE_SIZE = 4096
VCPU_MAPPING = "anon_inode:kvm-vcpu:0"
TIME_LIMIT = 10.0  # seconds, for one guest from start to stop
RUNNING = {"prelaunch", "running"}
LOG_LIMIT = 16384  # bytes; QEMU resumes a guest in user mode after each dump, and may never stop
LOG_DUMPS = 3  # how many dumps of such an endless series are kept
HEAD = "KVM internal error."
INTERNAL_ERROR = 17


class GuestRun(NamedTuple):
    log: str  # QEMU's stderr
    page: bytes | None  # the vCPU's kvm_run page, None where it could not be read
    command: list[str]
    status: str  # QMP's; or "repeating": dump after dump; "running": time limit; "exited": QEMU is gone
    exit_reason: int | None  # KVM_EXIT_*, from the page
    seconds: float  # until the status was no longer running


def unavailable() -> str | None:
    """Why no guest can run here, or None."""
    if not KVM.exists():
        return "no /dev/kvm"
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM}:
            return "not permitted: /dev/kvm"
        return f"/dev/kvm: {error.strerror}"
    if shutil.which(QEMU) is None:
        return f"no {QEMU}"
    return None


def command_for(image: Path, monitor: Path, memory: str) -> list[str]:
    return [
        QEMU,
        *("-accel", "kvm", "-cpu", CPU, "-machine", "pc", "-smp", "1", "-m", memory),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-device", "VGA,romfile="),  # for the window at 0xa0000; without it there is RAM
        *("-device", "pvpanic"),
        *("-action", "reboot=shutdown,shutdown=pause,panic=pause"),
        *("-bios", str(image)),
        *("-qmp", f"unix:{monitor},server=on,wait=off"),
    ]


def run_guest(name: str, image: bytes, *, memory: str = "16M") -> GuestRun:
    """Run the firmware `image` until QEMU pauses it, and read what is there to read."""
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as directory:
        firmware, monitor, log = (Path(directory, file) for file in (f"{name}.bin", "qmp", "qemu.log"))
        firmware.write_bytes(image)
        command = command_for(firmware, monitor, memory)
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr)
        try:
            started = time.monotonic()
            deadline = started + TIME_LIMIT
            status = _wait(process, monitor, log, deadline)
            seconds = time.monotonic() - started
            page = None if status == "exited" else kvm_run_page(process.pid)
            while status == "repeating" and page and _exit_reason(page) != INTERNAL_ERROR:
                if time.monotonic() > deadline:  # caught it in KVM_RUN every time
                    break
                page = kvm_run_page(process.pid)
        finally:
            process.kill()
            process.wait()
        text = log.read_text(encoding="utf-8", errors="surrogateescape")
    if status == "repeating":
        text = HEAD.join(text.split(HEAD)[: LOG_DUMPS + 1])
    exit_reason = None if page is None else _exit_reason(page)
    return GuestRun(text, page, command, status, exit_reason, seconds)


def _exit_reason(page: bytes) -> int:
    return int.from_bytes(page[8:12], "little")


def kvm_run_page(pid: int) -> bytes | None:
    """Read the first page of vCPU 0's mapping in that process."""
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="ascii", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == VCPU_MAPPING:
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                memory.seek(int(fields[0].split("-")[0], 16))
                return memory.read(PAGE_SIZE)
    return None


def _wait(process: subprocess.Popen[bytes], monitor: Path, log: Path, deadline: float) -> str:
    """Wait until the VM is no longer running; its status."""
    with socket.socket(socket.AF_UNIX) as connection:
        while True:
            try:
                connection.connect(str(monitor))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if process.poll() is not None or time.monotonic() > deadline:
                    return "exited"
                time.sleep(0.01)
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        with connection.makefile("rwb") as channel:
            try:
                channel.readline()  # the greeting
                _ask(channel, "qmp_capabilities")
                status = "running"
                while status in RUNNING and time.monotonic() < deadline:
                    time.sleep(0.01)
                    status = str(_ask(channel, "query-status")["status"])
                    if status == "running" and log.stat().st_size > LOG_LIMIT:
                        return "repeating"
            except TimeoutError:
                return "running"
            except (OSError, EOFError):  # the monitor is gone, so is QEMU
                return "exited"
            return status


def _ask(channel: Any, command: str) -> dict[str, Any]:
    channel.write(json.dumps({"execute": command}).encode() + b"\n")
    channel.flush()
    while line := channel.readline():
        answer: dict[str, Any] = json.loads(line)
        if "return" in answer:
            result: dict[str, Any] = answer["return"]
            return result
        if "error" in answer:
            raise OSError(errno.EPROTO, answer["error"].get("desc", command))
    raise EOFError
