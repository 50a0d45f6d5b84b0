"""rsyslog and syslog-ng, as their recipes set them up: two guests of a host, over TCP on loopback, into a lake."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.logs import BLOCK, ROOT
from kvmwhy import fleet
from kvmwhy.fleet.row import Row
from recipes.programs import Program

RECIPES = ROOT / "contrib" / "fleet"
OLD = b"2026-01-01 00:00:00.000+0000: starting up\n" + BLOCK


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Road:
    """A host's log files, the shipper there, the one of the collector, and the lake."""

    def __init__(self, tmp: Path) -> None:
        self.tmp, self.qemu, self.lake = tmp, tmp / "qemu", tmp / "lake"
        self.qemu.mkdir()
        self.lake.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def recipe(self, name: str) -> str:
        """As it is, but for directories, and addresses on loopback."""
        text = (RECIPES / name).read_text()
        for old, new in (
            ("/var/log/libvirt/qemu", str(self.qemu)),
            ("/srv/lake", str(self.lake)),
            ("10514", str(self.port)),
            ('"collector"', '"127.0.0.1"'),
            ('type="imtcp"', 'type="imtcp" address="127.0.0.1"'),
            ('resumeInterval="10"', 'resumeInterval="1"'),
            ("syslog(port", 'syslog(ip("127.0.0.1") port'),
        ):
            text = text.replace(old, new)
        return text

    def _command(self, kind: str, where: Path, recipe: str) -> tuple[Program, list[object]]:
        config = where / "config"
        if kind == "rsyslog":
            program = Program("rsyslogd")
            config.write_text(f'global(workDirectory="{where}" maxMessageSize="64k")\n{recipe}')
            modules = program.directory("usr/lib/*/rsyslog")
            return program, ["-n", "-f", config, "-i", where / "pid", "-M", modules]
        program = Program("syslog-ng")
        config.write_text(f"@version: 3.38\noptions {{ stats-freq(0); time-reopen(1); }};\n{recipe}")
        modules = program.directory("usr/lib/syslog-ng/[0-9]*")
        files = ["-R", where / "persist", "-c", where / "control", "-p", where / "pid"]
        return program, ["-F", "-f", config, *files, "--no-caps", "--module-path", modules]

    @contextmanager
    def running(self, kind: str, role: str) -> Iterator[None]:
        where = self.tmp / f"{kind}-{role}"
        where.mkdir(exist_ok=True)
        program, arguments = self._command(kind, where, self.recipe(f"{kind}-{role}.conf"))
        process = program.start(*arguments, log=where / "said")
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert not process.returncode, (where / "said").read_text()

    def arrived(self, what: bytes) -> int:
        return sum(path.read_bytes().count(what) for path in self.lake.rglob("*.jsonl"))

    def wait_for_host(self) -> None:
        """Until a line that is written now arrives."""

        def one_more() -> bool:
            with (self.qemu / "web01.log").open("ab") as log:
                log.write(b"are you there\n")
            return self.arrived(b"are you there") > 0

        until(one_more, "the shippers do not start")

    def write(self, *names: str) -> None:
        """A failure of each guest at once, line by line."""
        with ExitStack() as stack:
            logs = [stack.enter_context((self.qemu / name).open("ab", buffering=0)) for name in names]
            for line in BLOCK.splitlines(keepends=True):
                for log in logs:
                    log.write(line)

    def rows(self) -> list[Row]:
        return list(fleet.records([str(self.lake)]))


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return Road(tmp_path)


@pytest.mark.parametrize(("host", "lake"), [("rsyslog", "syslog-ng"), ("syslog-ng", "rsyslog")])
def test_failures_come_through_with_host_guest_and_time(road: Road, host: str, lake: str) -> None:
    """Each recipe of a host with the other's of a collector: two guests that fail at once are two rows, one with a
    space in its name; what was in the files before has no time that anybody knows: rsyslog leaves it out."""
    (road.qemu / "web01.log").write_bytes(OLD)
    old = {"rsyslog": 0, "syslog-ng": 1}[host]
    begin = datetime.now(UTC)
    with road.running(lake, "lake"), road.running(host, "host"):
        road.wait_for_host()
        road.write("web01.log", "Windows 10.log")
        until(lambda: road.arrived(b"Code=") == 2 + old, "lines are missing")
    rows = road.rows()
    assert {(row.writer, row.host, row.count) for row in rows} == {
        ("web01", socket.gethostname(), 1 + old),
        ("Windows_10", socket.gethostname(), 1),
    }
    for row in rows:
        assert row.time is not None
        assert begin <= row.time <= datetime.now(UTC)
    assert len({row.signature for row in rows}) == 1


@pytest.mark.parametrize(("host", "lake", "old"), [("rsyslog", "rsyslog", 0), ("syslog-ng", "syslog-ng", 1)])
def test_nothing_is_lost_over_a_restart(road: Road, host: str, lake: str, old: int) -> None:
    """What is written while the host's shipper is down comes when it is up, once. What is written while the collector
    is down comes too; plain TCP cannot tell whether the line on which it broke arrived: that one may be there twice."""
    (road.qemu / "web01.log").write_bytes(OLD)
    with road.running(lake, "lake"):
        with road.running(host, "host"):
            road.wait_for_host()
            road.write("web01.log")
            until(lambda: road.arrived(b"Code=") == 1 + old, "the first is missing")
        road.write("web01.log")
        with road.running(host, "host"):
            until(lambda: road.arrived(b"Code=") == 2 + old, "the second is missing")
    assert sum(row.count for row in road.rows()) == 2 + old
    with road.running(host, "host"):
        road.write("web01.log")
        with road.running(lake, "lake"):
            until(lambda: road.arrived(b"Code=") >= 3 + old, "the third is missing")
    assert road.arrived(b"Code=") == 3 + old
    assert sum(row.count for row in road.rows()) in {3 + old, 4 + old}
