"""QEMU's own log of a failure: found where its standard error leads, and only if it is about what the page shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmwhy.live import qemu_log
from kvmwhy.live.process import Vmm
from kvmwhy.live.qemu_command import Domain, domain_of, guest_name
from kvmwhy.readers import read, run_page

FIXTURES = Path(__file__).parent.parent / "fixtures"
LOG = (FIXTURES / "prot32-flds" / "qemu.log").read_bytes()
OTHER = (FIXTURES / "long64-jump" / "qemu.log").read_bytes()
(PAGE,) = run_page.read((FIXTURES / "prot32-flds" / "kvm_run.page").read_bytes()).failures
# accel/kvm/kvm-all.c: kvm_cpu_exec()
RUN_FAILED = b"error: kvm run failed Bad address\n" + LOG[LOG.index(b"EAX=") :]


@contextmanager
def writing(stderr: object, *command: str) -> Iterator[Vmm]:
    """A process that stands for a QEMU; its standard error leads there."""
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr) as held:  # type: ignore[call-overload]
        try:
            yield Vmm(held.pid, "qemu-system-x86", ("qemu-system-x86_64", *command), ())
        finally:
            held.kill()


@contextmanager
def into(path: Path, text: bytes) -> Iterator[Vmm]:
    path.write_bytes(text)
    with path.open("ab") as stream, writing(stream) as vmm:
        yield vmm


def test_the_dump_with_the_words_of_the_page(tmp_path: Path) -> None:
    """Among other failures, and through a file that has no name any more."""
    path = tmp_path / "log"
    with into(path, OTHER + LOG + OTHER) as vmm:
        path.unlink()
        found = qemu_log.of_page(vmm, PAGE)
    assert found is not None
    merged = qemu_log.merged(PAGE, found[0])
    (expected,) = read(LOG).failures
    assert merged.data == PAGE.data
    assert (merged.cpu, merged.code) == (expected.cpu, expected.code)
    assert "log" in found[1]


def test_a_dump_of_another_failure_is_not_taken(tmp_path: Path) -> None:
    """Registers of other words, or of none, are nobody's."""
    for text in (OTHER, b"", b"KVM internal error. Suberror: 1\n", os.urandom(4096)):
        with into(tmp_path / "log", text) as vmm:
            assert qemu_log.of_page(vmm, PAGE) is None


def test_a_pipe_is_left_to_its_reader() -> None:
    """Nothing is taken out of it."""
    reader, writer = os.pipe()
    os.write(writer, LOG)
    with writing(writer) as vmm:
        os.close(writer)
        assert qemu_log.of_page(vmm, PAGE) is None
    assert os.read(reader, len(LOG)) == LOG
    os.close(reader)


def test_the_journal_is_asked_for_what_this_process_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service's standard error is a socket of the journal's."""
    asked: list[list[str]] = []

    def journalctl(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout=LOG)

    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/journalctl")
    monkeypatch.setattr(qemu_log, "_link", lambda _pid, _number: "socket:[4242]")
    vmm = Vmm(1 << 30, "qemu", ("qemu-system-x86_64",), ())
    logs = list(qemu_log.logs(vmm, run=journalctl))
    assert [log.text for log in logs] == [LOG]
    assert f"_PID={1 << 30}" in asked[0]


def test_kvm_run_failed(tmp_path: Path) -> None:
    """What no page tells: the log's last failure, if it is that; a later other one is not it."""
    with into(tmp_path / "log", LOG + RUN_FAILED) as vmm:
        found = qemu_log.last_run_error(vmm)
    assert found is not None
    assert (found[0].kind, found[0].errno) == ("run-error", "EFAULT")
    with into(tmp_path / "log", RUN_FAILED + LOG) as vmm:
        assert qemu_log.last_run_error(vmm) is None


def test_a_failure_of_an_earlier_start_is_none_of_this_one(tmp_path: Path) -> None:
    """libvirt appends to one log of a domain: what stands above the last "starting up" is of a VM that has ended."""
    restarted = b"2026-02-03 04:05:06.789+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.22\n"
    with into(tmp_path / "log", LOG + RUN_FAILED + restarted) as vmm:
        assert qemu_log.last_run_error(vmm) is None
        assert all(b"run failed" not in log.text for log in qemu_log.logs(vmm))
    with into(tmp_path / "log", restarted + RUN_FAILED) as vmm:
        assert qemu_log.last_run_error(vmm) is not None


@pytest.mark.parametrize(
    ("command", "name", "domain"),
    [
        (("-name", "web1"), "web1", None),
        (("-name", "guest=web1,debug-threads=on"), "web1", None),
        (("-name", "guest=a,,b"), "a,b", None),
        (("-name", "debug-threads=on"), None, None),
        (("-m", "16"), None, None),
        (("-name",), None, None),
        (
            ("-name", "guest=web1", "-object", '{"file":"/var/lib/libvirt/qemu/domain-7-web1/master-key.aes"}'),
            "web1",
            Domain("web1", "qemu:///system"),
        ),
        (
            ("-name", "guest=web1", "-object", "secret,file=/home/u/.config/libvirt/qemu/lib/domain-1-web1/x.aes"),
            "web1",
            Domain("web1", "qemu:///session"),
        ),
    ],
)
def test_names_on_a_command_line(command: tuple[str, ...], name: str | None, domain: Domain | None) -> None:
    """QEMU's own syntax, and the directory that libvirt gives each domain."""
    vmm = Vmm(1, "qemu", ("qemu-system-x86_64", *command), ())
    assert guest_name(vmm) == name
    assert domain_of(vmm) == domain
