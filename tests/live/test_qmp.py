"""QEMU's monitor: asked questions only, one client at a time, and never trusted."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.live import qemu, qmp
from kvmwhy.live.errors import BusyError, CaptureError, GoneError, NotPermittedError
from kvmwhy.live.qemu_socket import from_command
from kvmwhy.live.qmp import QmpSocket, Virsh

DATA = Path(__file__).parent / "data" / "qemu-7.2-pc"
GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": []}}
READS = ("info registers -a", "info mtree -f", "info qtree", "xp /")


class FakeQemu:
    """A monitor that answers with what was captured, and remembers every line that it was sent."""

    def __init__(self, path: Path, first: bytes | None = None) -> None:
        self.heard: list[dict[str, Any]] = []
        self.path = path
        self.first = json.dumps(GREETING).encode() + b"\n" if first is None else first
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as channel:
                try:
                    channel.write(self.first)
                    channel.flush()
                    for line in channel:
                        message = json.loads(line)
                        self.heard.append(message)
                        channel.write(b'{"event": "NOTHING", "data": {}}\n')
                        channel.write(json.dumps({"return": self.answer(message)}).encode() + b"\n")
                        channel.flush()
                except OSError:
                    continue

    def answer(self, message: dict[str, Any], /) -> Any:
        line = message.get("arguments", {}).get("command-line", "")
        if line.startswith("xp /"):
            count, start = int(line[4:].split("xb")[0]), int(line.split()[-1], 16)
            return "".join(f"{start + n:016x}: 0x{(start + n) & 0xFF:02x}\r\n" for n in range(count))
        files = {"info registers -a": "registers.txt", "info mtree -f": "mtree.txt", "info qtree": "qtree.txt"}
        if line in files:
            return (DATA / files[line]).read_text().replace("\n", "\r\n")
        return {
            "query-status": {"status": "internal-error", "running": False},
            "query-version": GREETING["QMP"]["version"],
            "query-memory-size-summary": {"base-memory": 64 << 20, "plugged-memory": 0},
            "query-pci": json.loads((DATA / "pci.json").read_text()),
        }.get(message["execute"], {})


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeQemu]:
    server = FakeQemu(tmp_path / "qmp")
    yield server
    server.socket.close()


def test_a_view_of_the_guest(fake: FakeQemu) -> None:
    """Status, registers, RAM, devices, and the bytes at RIP where the map says RAM."""
    with QmpSocket(str(fake.path)) as monitor:
        guest = qemu.view(monitor)
        cpu = guest.cpus[0]
        seen = qemu.around(monitor, guest, cpu)
    assert (guest.status, guest.version, guest.ram_bytes) == ("internal-error", "7.2.22", 64 << 20)
    rip = cpu.registers["rip"] + cpu.segments["cs"].base
    assert seen.code is not None
    assert seen.code.at_rip()[:4] == bytes((rip + n) & 0xFF for n in range(4))


def test_no_device_is_ever_read(fake: FakeQemu) -> None:
    """QEMU passes a read of what is not RAM on to the device: such a read is not asked for."""
    with QmpSocket(str(fake.path)) as monitor:
        guest = qemu.view(monitor)
        before = len(fake.heard)
        assert qemu.read(monitor, guest, 0xFEC0_0000, 8) is None
        assert qemu.read(monitor, guest, 0xB8000, 8) is None
        assert qemu.read(monitor, guest, 0x9FFFC, 8) is None  # begins in RAM, ends in the VGA window
        assert len(fake.heard) == before
        assert qemu.read(monitor, guest, 0x1000, 8) == bytes(range(8))


def test_only_questions_are_sent(fake: FakeQemu) -> None:
    """Nothing that stops, resumes, resets or writes can be said, by no bug; all that was said only looks."""
    with QmpSocket(str(fake.path)) as monitor:
        for command in ("stop", "cont", "system_reset", "quit", "memsave", "pmemsave", "device_del", "qom-set"):
            with pytest.raises(ValueError, match="only looks"):
                monitor.execute(command)
        for line in ("stop", "c", "x /8i 0", "info registers -a; quit", "xp /8xb 0x1000 ", "i /1 0x80", "info jit"):
            with pytest.raises(ValueError, match="only looks"):
                monitor.human(line)
        qemu.around(monitor, guest := qemu.view(monitor), guest.cpus[0])
    for message in fake.heard:
        if message["execute"] == "human-monitor-command":
            assert message["arguments"]["command-line"].startswith(READS)
        else:
            assert message["execute"] == "qmp_capabilities" or message["execute"].startswith("query-")


def test_a_busy_socket_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU greets one client; the next one waits unheard, and is told why."""
    monkeypatch.setattr(qmp, "_GREETING", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "qmp"))
        silent.listen()
        with pytest.raises(BusyError, match="one client at a time"):
            QmpSocket(str(tmp_path / "qmp"))


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (b"SSH-2.0-x\n", "no QMP"),
        (b"[1]\n", "no QMP"),
        (b'{"hello": 1}\n', "does not greet as QMP"),
        (b"[" * 100_000 + b"\n", "no QMP"),
    ],
)
def test_other_services_hear_nothing(tmp_path: Path, first: bytes, error: str) -> None:
    """A path from a command line may lead anywhere: whoever does not greet as QMP gets not one byte."""
    server = FakeQemu(tmp_path / "qmp", first)
    with pytest.raises(CaptureError, match=error):
        QmpSocket(str(server.path))
    assert server.heard == []
    server.socket.close()


def test_an_endless_answer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an end is bounded."""
    monkeypatch.setattr(qmp, "_MAX_ANSWER", 1 << 16)
    server = FakeQemu(tmp_path / "qmp", b"x" * (1 << 20))
    with pytest.raises(CaptureError, match="an answer of more than"):
        QmpSocket(str(server.path))
    server.socket.close()


def test_whose_socket_it_is(fake: FakeQemu) -> None:
    """A socket of another user than the VMM's is not used; the maker's process is known."""
    with QmpSocket(str(fake.path), owner=os.geteuid()) as monitor:
        assert monitor.pid == os.getpid()
    if os.geteuid() != 0:  # root may own a socket that it handed to anyone
        with pytest.raises(CaptureError, match="belongs to user"):
            QmpSocket(str(fake.path), owner=os.geteuid() + 1)


def test_sockets_that_are_none(tmp_path: Path) -> None:
    """No such path, or no listener: one sentence each."""
    with pytest.raises(GoneError, match="no such file"):
        QmpSocket(str(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    with pytest.raises((GoneError, NotPermittedError)):
        QmpSocket(str(tmp_path / "file"))


VIRSH = """#!{python}
import json, socket, sys
assert sys.argv[1:3] == ["-q", "qemu-monitor-command"], sys.argv
name, command = (dict(a.lstrip("-").split("=", 1) for a in sys.argv[3:]))["domain"], sys.argv[4].split("=", 1)[1]
if name != "guest; reboot":
    sys.exit("error: failed to get domain '%s'" % name)
with socket.socket(socket.AF_UNIX) as s, s.makefile("rwb") as f:
    s.connect({path!r})
    f = s.makefile("rwb")
    f.readline()
    f.write(command.encode() + b"\\n"); f.flush()
    while (line := f.readline()).startswith(b'{{"event"'): pass
    print(json.dumps({{**json.loads(line), "id": "libvirt-9"}}))
"""


def test_a_libvirt_domain(fake: FakeQemu, tmp_path: Path) -> None:
    """virsh carries the same questions; a domain's name is never a shell's business nor an option."""
    program = tmp_path / "virsh"
    program.write_text(VIRSH.format(python=sys.executable, path=str(fake.path)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    guest = qemu.view(Virsh("guest; reboot", program=str(program)))
    assert guest.status == "internal-error"
    with pytest.raises(CaptureError, match="failed to get domain '--help'"):
        Virsh("--help", program=str(program)).execute("query-status")
    with pytest.raises(CaptureError, match="there is no virsh-of-nowhere"):
        Virsh("x", program="virsh-of-nowhere").execute("query-status")
    with pytest.raises(ValueError, match="only looks"):
        Virsh("guest; reboot", program=str(program)).execute("system_reset")


@pytest.mark.parametrize(
    ("command", "paths"),
    [
        (["-qmp", "unix:/run/a,server=on,wait=off"], ["/run/a"]),
        (["-qmp", "unix:/run/a,,b,server"], ["/run/a,b"]),
        (["-qmp", "tcp:127.0.0.1:4444,server"], []),
        (["-chardev", "socket,id=c,path=/m,server=on", "-mon", "chardev=c,id=m,mode=control"], ["/m"]),
        (["-mon", "chardev=c,mode=readline", "-chardev", "socket,id=c,path=/m"], []),
        (["-monitor", "unix:/hmp,server"], []),
        (["-chardev", "socket,id=c,fd=23", "-mon", "chardev=c,mode=control"], []),
        (["-qmp"], []),
    ],
)
def test_where_qemu_listens(command: list[str], paths: list[str]) -> None:
    """QEMU's option syntax: a doubled comma is one, and only control mode is QMP."""
    assert list(from_command(("qemu-system-x86_64", *command))) == paths


def test_answers_of_any_shape(tmp_path: Path) -> None:
    """A monitor that answers everything with the wrong type: a poorer view, no error."""

    class Odd(FakeQemu):
        def answer(self, _message: dict[str, Any], /) -> Any:
            return [[["x"]], 7]

    server = Odd(tmp_path / "qmp")
    with QmpSocket(str(server.path)) as monitor:
        guest = qemu.view(monitor)
    assert (guest.cpus, guest.version, guest.ram_bytes, guest.running) == ({}, None, None, False)
    server.socket.close()
