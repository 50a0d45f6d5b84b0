"""A healthy VM is never taken for a failed one, nor a failed one for healthy: real QEMUs in every state.

A sample: bench/attach.py takes hundreds of looks.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from guests import boot, healthy, qemu
from kvmwhy.cli.attach import examine
from kvmwhy.cli.main import kvmwhy
from kvmwhy.live.host import host_facts
from kvmwhy.live.kvm_stats import read_counts
from kvmwhy.live.process import vmm as process_of_vmm

pytestmark = pytest.mark.live


def failures(pid: int, *, monitor: bool) -> int:
    with ExitStack() as stack:
        return len(examine(process_of_vmm(pid), host_facts(), None, stack, ask=monitor, brief=False).failing)


@pytest.mark.parametrize("state", healthy.STATES, ids=lambda state: state.name)
def test_a_healthy_vm_has_not_failed(state: healthy.State, directory: Path) -> None:
    """With its monitor and without; and looking at it changes nothing for it."""
    with healthy.run_state(state, directory) as running:
        for monitor in (True, False, False):
            assert failures(running.pid, monitor=monitor) == 0
        assert healthy.ask(running, {"execute": "query-status"})["status"] in state.statuses


@pytest.mark.parametrize("name", ["real16-jump", "long64-flds"])
@pytest.mark.parametrize("vcpus", [1, 2])
def test_a_failed_vm_has(name: str, vcpus: int, directory: Path) -> None:
    """One vCPU of it, however many it has."""
    guest = boot.GUESTS[name]
    with healthy.run(guest.image, directory, vcpus=vcpus, memory=guest.memory) as running:
        if healthy.wait_until(running, set(guest.endings)) != "internal-error":
            pytest.skip("this KVM lets the guest end otherwise")
        assert [failures(running.pid, monitor=monitor) for monitor in (True, False)] == [1, 1]


def test_a_host_of_healthy_vms(directory: Path) -> None:
    """`attach --all`: how many VMs, no failure, and status 1; a VM by its name likewise."""
    with healthy.run(healthy.PORTS, directory, options=("-name", "guest=one")) as running:
        healthy.wait_until(running, {"running"})
        table = CliRunner().invoke(kvmwhy, ["attach", "--all"])
        by_name = CliRunner().invoke(kvmwhy, ["attach", "one"])
    assert f"guest one, qemu-system-x86 (process {running.pid}): 1 vCPU, no failure" in table.stdout
    if "with a failure" not in table.stdout:  # of somebody else's VM
        assert table.exit_code == 1
        assert table.stdout.rstrip().endswith("no failure.")
    assert by_name.exit_code == 1
    assert "QEMU, guest running" in by_name.stdout


def test_the_log_stands_in_for_a_monitor(directory: Path) -> None:
    """A guest of 32 bits without a monitor: its mode and registers are in the file that QEMU's stderr is."""
    guest = boot.GUESTS["prot32-flds"]
    with healthy.run(guest.image, directory, memory=guest.memory) as running:
        if healthy.wait_until(running, set(guest.endings)) != "internal-error":
            pytest.skip("this KVM lets the guest end otherwise")
        result = CliRunner().invoke(kvmwhy, ["attach", str(running.pid), "--no-monitor"])
    assert result.exit_code == 0
    assert "prot32" in result.stdout
    assert "fld dword ptr [ebx]" in result.stdout
    assert f"from {running.log}" in result.stdout.replace("\n       ", " ")
    assert "64-bit code is assumed" not in result.stdout


def test_kvms_own_count_from_qemu(directory: Path) -> None:
    """QEMU passes on how often KVM's emulator failed; debugfs may say so as well."""
    guest = boot.GUESTS["long64-flds"]
    with healthy.run(guest.image, directory, memory=guest.memory) as running:
        if healthy.wait_until(running, set(guest.endings)) != "internal-error":
            pytest.skip("this KVM lets the guest end otherwise")
        reading = read_counts(str(directory / "no-debugfs"))
    if str(running.pid) not in reading.counts:
        pytest.skip(f"this QEMU has no query-stats: {reading.why}")
    assert reading.source == "qmp"
    assert reading.counts[str(running.pid)] >= 1


def test_a_monitor_in_a_container(directory: Path) -> None:
    """The socket of a QEMU that has file systems of its own is found where that QEMU sees it."""
    if os.geteuid() != 0:
        pytest.skip("a mount namespace takes root")
    guest = boot.GUESTS["long64-flds"]
    firmware = directory / "guest.bin"
    firmware.write_bytes(guest.image)
    (directory / "private").mkdir()
    monitor = directory / "private" / "qmp"
    script = 'mount -t tmpfs none "$1" && shift && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(monitor.parent)]
    command += qemu.command_for(firmware, monitor, guest.memory)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            inside = healthy.Running(process, Path(f"/proc/{process.pid}/root{monitor}"), directory / "none")
            if healthy.wait_until(inside, set(guest.endings)) != "internal-error":
                pytest.skip("this KVM lets the guest end otherwise")
            assert not monitor.exists()
            result = CliRunner().invoke(kvmwhy, ["attach", str(process.pid), "--json"])
        finally:
            process.kill()
    assert json.loads(result.stdout)["live"]["registers_from"] == "QEMU's monitor"
