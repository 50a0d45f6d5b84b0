"""Domains of a real libvirt: found by name, explained through virsh, and left as they are."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guests import boot, healthy, qemu
from guests.libvirt_host import Libvirt, unavailable
from needs import missing
from watching import NAME

pytestmark = pytest.mark.live
GUEST = boot.GUESTS["prot32-flds"]


@pytest.fixture(scope="module")
def libvirt() -> Iterator[Libvirt]:
    """Two domains: one that KVM has given up on, and one that runs."""
    if reason := unavailable() or qemu.unavailable():
        missing("libvirt", reason)
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as directory, Libvirt(Path(directory)) as made:
        made.start("failing", GUEST.image)
        made.start("calm", healthy.PORTS, vcpus=2)
        deadline = time.monotonic() + healthy.PATIENCE
        while made.state("failing") == "running (booted)" and time.monotonic() < deadline:
            time.sleep(0.1)
        if made.state("failing") != "paused (unknown)":
            pytest.skip(f"this KVM lets the guest end as {made.state('failing')}")
        yield made


def test_the_paused_domain_is_explained(libvirt: Libvirt) -> None:
    """`attach --domain`: what virsh calls "paused (unknown)" is the failure that was built, with the memory map."""
    result = libvirt.kvmwhy("attach", "--domain", "failing", "--json")
    assert result.returncode == 0, result.stderr
    item = json.loads(result.stdout)
    assert (item["kind"], item["suberror"], item["cpu"]["mode"]) == ("internal-error", 1, "prot32")
    assert item["instruction"]["bytes"] == GUEST.insn.hex(" ")
    assert int(item["cpu"]["rip"], 16) == GUEST.rip
    assert (item["source"]["guest"], item["live"]["domain"]) == ("failing", "failing")
    assert item["live"]["guest"]["status"] == "internal-error"
    places = {int(place["gpa"], 16): place["what"] for place in item["live"]["guest"]["places"]}
    assert places[boot.HOLE].startswith("nothing")
    assert "pc.ram" in places[GUEST.rip]
    assert libvirt.state("failing") == "paused (unknown)"


@pytest.mark.parametrize("target", ["failing", "pid"])
def test_by_name_and_by_pid_virsh_is_asked_too(libvirt: Libvirt, target: str) -> None:
    """libvirt has the monitor of its QEMUs: nobody waits for that, and no greeting is missed."""
    result = libvirt.kvmwhy("attach", str(libvirt.pid("failing")) if target == "pid" else target, "--json")
    assert result.returncode == 0, result.stderr
    item = json.loads(result.stdout)
    assert item["live"]["registers_from"] == "QEMU's monitor"
    assert result.stderr == ""


def test_all_domains_by_name(libvirt: Libvirt) -> None:
    """`attach --all` names each domain, finds the paused one by itself, and says what it failed of."""
    result = libvirt.kvmwhy("attach", "--all")
    assert result.returncode == 0, result.stderr
    assert f"domain failing, qemu-system-x86 (process {libvirt.pid('failing')}): 1 vCPU, 1 with" in result.stdout
    assert f"domain calm, qemu-system-x86 (process {libvirt.pid('calm')}): 2 vCPUs, no failure" in result.stdout
    assert "no handler for `fld dword ptr [ebx]`" in " ".join(result.stdout.split())
    assert libvirt.kvmwhy("attach", "calm").returncode == 1
    assert libvirt.state("calm").startswith("running")


def test_without_libvirt_the_log_has_the_registers(libvirt: Libvirt) -> None:
    """Where virsh cannot be asked, libvirt's log of the domain is read: the mode is known all the same."""
    result = libvirt.kvmwhy("attach", "failing", "--no-monitor", "--json")
    item = json.loads(result.stdout)
    assert item["cpu"]["mode"] == "prot32"
    assert item["live"]["registers_from"] == "/var/log/libvirt/qemu/failing.log"


def test_a_watch_names_the_domain(libvirt: Libvirt, tracefs: Path, tmp_path: Path) -> None:
    """A domain that fails while it is watched, and one for which `attach -f` waits."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "kvmwhy", "watch", "--tracefs", str(tracefs), "--out", str(out), "--name", NAME]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stderr is not None
        while "watching every vCPU" not in watching.stderr.readline():
            assert watching.poll() is None
        libvirt.start("watched", GUEST.image)
        libvirt.wait_for("watched", "paused (unknown)")
        pid = libvirt.pid("watched")
        deadline = time.monotonic() + healthy.PATIENCE
        while f"process {pid}".encode() not in out.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.05)
        watching.terminate()
        watching.communicate(timeout=healthy.PATIENCE)
    libvirt.stop("watched")
    sources = [json.loads(line)["source"] for line in out.read_text().splitlines()]
    assert ("watched", f"process {pid}") in {(source["guest"], source["path"]) for source in sources}
