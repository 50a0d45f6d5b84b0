"""`kvmwhy attach` to several VMMs, by number and by name, and to one that has not failed yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from guests import boot, healthy
from kvmwhy.cli.main import kvmwhy
from schemas import keeps_to
from watching import Held

pytestmark = pytest.mark.live


def attach(*args: str) -> Result:
    return CliRunner().invoke(kvmwhy, ["attach", *args])


def test_several_at_once(vmm: Path, directory: Path) -> None:
    """PIDs and names together: each is explained; the status is that of a failure, and an error counts more."""
    guest = boot.GUESTS["real16-jump"]
    with healthy.run(guest.image, directory, memory=guest.memory) as running, Held(vmm, "long64") as held:
        if healthy.wait_until(running, set(guest.endings)) != "internal-error":
            pytest.skip("this KVM lets the guest end otherwise")
        result = attach(str(running.pid), str(held.pid), "--json")
        assert result.exit_code == 0, result.stderr
        found = {item["live"]["pid"] for item in keeps_to("attach", result.stdout)}
        assert found == {running.pid, held.pid}
        by_name = attach("vmm", "--json")
        assert held.pid in {json.loads(line)["live"]["pid"] for line in by_name.stdout.splitlines()}
        assert attach(str(held.pid), str(os.getpid())).exit_code == 2
        rows = keeps_to("attach", attach("--all", "--json").stdout)
    mine = {row["pid"]: row for row in rows if row["pid"] in {running.pid, held.pid}}
    assert all(row["failure"] and row["answer"] for row in mine.values())
    assert len(mine) == 2


@pytest.mark.parametrize("every", [False, True])
def test_waiting_for_the_next_failure(every: bool, directory: Path) -> None:
    """-f says nothing while the guest has not begun, and explains it once it has failed."""
    guest = boot.GUESTS["long64-flds"]
    options = ("-S", "-name", "waiting")
    with healthy.run(guest.image, directory, memory=guest.memory, options=options) as running:
        healthy.wait_until(running, {"prelaunch"})
        command = [sys.executable, "-m", "kvmwhy", "attach", "-f", "--json", "--all" if every else "waiting"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
            assert waiting.stderr is not None
            assert "waiting for the next failure" in waiting.stderr.readline()
            healthy.ask(running, {"execute": "cont"})
            if healthy.wait_until(running, set(guest.endings)) != "internal-error":
                waiting.kill()
                pytest.skip("this KVM lets the guest end otherwise")
            out, _ = waiting.communicate(timeout=healthy.PATIENCE)
    item = json.loads(out.splitlines()[0])
    assert waiting.returncode == 0
    if not every:
        assert (item["live"]["pid"], item["suberror"]) == (running.pid, 1)


def test_waiting_ends_with_the_vmms(vmm: Path) -> None:
    """A VMM that ends without a failure: status 1, and where such failures are seen."""
    with subprocess.Popen([vmm, "mmio", "1", "1", "300", "pace"], stdout=subprocess.DEVNULL) as process:
        time.sleep(0.1)
        result = attach("-f", str(process.pid))
    assert result.exit_code == 1
    assert "kvmwhy watch" in result.stderr
