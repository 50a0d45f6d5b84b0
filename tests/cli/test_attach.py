"""`kvmwhy attach`: real QEMU, a VMM of its own, and what cannot be attached to."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from guests import boot, qemu
from kvmwhy.cli.main import kvmwhy
from kvmwhy.live import qmp
from kvmwhy.live.qmp import QmpSocket
from needs import missing

PATIENCE = 10.0


def attach(*args: str) -> Result:
    return CliRunner().invoke(kvmwhy, ["attach", *args])


class Paused:
    """A QEMU whose guest has failed, left as QEMU leaves it."""

    def __init__(self, name: str, directory: Path) -> None:
        guest = boot.GUESTS[name]
        self.guest, self.monitor = guest, directory / "qmp"
        firmware = directory / "guest.bin"
        firmware.write_bytes(guest.image)
        command = qemu.command_for(firmware, self.monitor, guest.memory)
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(0.05)
            if self.monitor.exists() and self.status() not in qemu.RUNNING:
                return

    def status(self) -> str:
        with QmpSocket(str(self.monitor)) as monitor:
            return str(monitor.execute("query-status")["status"])


@pytest.fixture(scope="module", params=["long64-flds", "real16-jump"])
def paused(request: pytest.FixtureRequest) -> Iterator[Paused]:
    reason = qemu.unavailable()
    if reason:
        missing("live", reason)
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as directory:  # a socket's path must be short
        made = Paused(request.param, Path(directory))
        try:
            yield made
        finally:
            made.process.kill()
            made.process.wait()


@pytest.mark.live
def test_qemu_by_pid(paused: Paused) -> None:
    """Page and monitor tell of the guest that was built: its RIP, its code, its failure; and nothing changes for it."""
    if paused.status() != "internal-error":
        pytest.skip(f"this KVM lets the guest end as {paused.status()}")
    result = attach(str(paused.process.pid), "--json")
    assert result.exit_code == 0, result.stderr
    (item,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (item["kind"], item["suberror"]) == ("internal-error", 1)
    cs_base = int(item["cpu"]["segments"]["cs"]["base"], 16)
    assert int(item["cpu"]["rip"], 16) + cs_base == paused.guest.rip
    assert (item["live"]["state"], item["live"]["guest"]["status"]) == ("stopped", "internal-error")
    assert item["host"]["ram_bytes"] == hex(16 << 20)
    if paused.guest.insn:
        assert item["instruction"]["bytes"] == paused.guest.insn.hex(" ")
        walk = next(w for w in item["live"]["guest"]["walks"] if int(w["gva"], 16) == paused.guest.rip)
        assert int(walk["gpa"], 16) == paused.guest.rip  # these guests map one to one
        window = item["code"]["window"].split()[item["code"]["rip_at"] :]
        assert " ".join(window).startswith(paused.guest.insn.hex(" "))
    assert paused.status() == "internal-error"


@pytest.mark.live
def test_the_same_by_socket_and_without_the_monitor(paused: Paused) -> None:
    """--qmp finds the process behind the socket; --no-monitor has the page alone."""
    if paused.status() != "internal-error":
        pytest.skip(f"this KVM lets the guest end as {paused.status()}")
    by_socket = json.loads(attach("--qmp", str(paused.monitor), "--json").stdout)
    by_page = json.loads(attach(str(paused.process.pid), "--no-monitor", "--json").stdout)
    assert by_socket["live"]["pid"] == by_page["live"]["pid"] == paused.process.pid
    assert by_socket["data"] == by_page["data"]
    assert by_socket["cpu"] is not None
    assert by_page["cpu"] is None
    table = attach("--all").stdout
    assert f"(process {paused.process.pid}): 1 vCPU, 1 with a failure" in table


@pytest.mark.live
def test_a_busy_monitor_is_said_and_done_without(paused: Paused, monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone else is QEMU's one client: the page is explained all the same."""
    monkeypatch.setattr(qmp, "_GREETING", 0.2)
    if paused.status() != "internal-error":
        pytest.skip(f"this KVM lets the guest end as {paused.status()}")
    with QmpSocket(str(paused.monitor)):
        result = attach(str(paused.process.pid), "--json")
    assert "one client at a time" in result.stderr
    assert json.loads(result.stdout)["suberror"] == 1


def test_what_is_no_vmm() -> None:
    """A process without vCPUs, a number without a process, a socket without a monitor: one sentence, status 2."""
    for arguments, said in (
        ([str(os.getpid())], "has no vCPU"),
        (["4194304"], "there is no process"),
        (["--qmp", "/nowhere/qmp"], "no such file"),
    ):
        result = attach(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["--all", "1"], ["--qmp", "a", "--domain", "b"], ["0"], ["--domain", "a", "1", "2"], ["--qmp", "a", "-f"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Status 2, and how it is used."""
    result = attach(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
