"""VMMs that fail under `kvmwhy exec`: explained, however soon they die, and nothing stays behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from guests import boot, qemu
from needs import missing
from schemas import keeps_to
from watching import PATIENCE

pytestmark = pytest.mark.live
EXEC = (sys.executable, "-m", "kvmwhy", "exec")
DIES = 8  # times in a row
FLD = "0xf403d90f"  # data[1]: how many bytes KVM had fetched, then fld dword [ebx], and hlt


def execute(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [*EXEC, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE * 3, **more)


def explained(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What --json wrote beside the command, as its schema has it."""
    return keeps_to("exec", (line for line in done.stderr.splitlines() if line.startswith("{")))


def ends(process: int) -> bool:
    """Whether it is gone soon."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not Path(f"/proc/{process}").exists():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(("guest", "kind"), [("prot32", "internal-error"), ("triple", "shutdown")])
def test_a_vmm_that_dies_at_once(vmm: Path, guest: str, kind: str) -> None:
    """Its page is read at its very end, without tracefs, every time; its output and exit status are its own."""
    for _ in range(DIES if guest == "prot32" else 3):
        done = execute("--no-trace", "--json", "--", vmm, guest, "1", "1", "1", "exit")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 1
        (one,) = explained(done)
        assert one["kind"] == kind
        assert one["source"]["vmm"] == "vmm"
        if guest == "prot32":
            assert one["data"][1].endswith(FLD.removeprefix("0x"))


def test_the_explanation_comes_before_the_exit_status(vmm: Path, tmp_path: Path) -> None:
    """Also in a file that the command writes to by itself; and our own words there are not read as its log."""
    path = tmp_path / "err"
    for _ in range(3):
        with path.open("wb") as err:
            command = [*EXEC, "--no-trace", "--", str(vmm), "prot32", "1", "1", "1", "exit"]
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=err, check=True, timeout=PATIENCE)
        assert path.read_text().count("── kvmwhy: vmm (process") == 1


def test_a_vmm_that_stands_still(vmm: Path) -> None:
    """A failure is explained while its VMM lives, and told once."""
    pipe = subprocess.PIPE
    command = [*EXEC, "--no-trace", "--", str(vmm), "prot32", "1", "2", "1", "hold"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stderr is not None
        text = b""
        while b"Raw words" not in text:
            text += os.read(process.stderr.fileno(), 65536)
        assert process.poll() is None
        time.sleep(0.5)
        text += process.communicate(b"")[1]
    assert process.returncode == 0
    assert text.count("── kvmwhy:".encode()) == 1
    assert b"no thread of the VMM runs this vCPU" in text


def test_a_guest_that_does_not_fail(vmm: Path) -> None:
    """Nothing is printed."""
    done = execute("--no-trace", "--", vmm, "mmio", "1", "2", "2000", "exit")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def flds(tmp_path: Path) -> list[str]:
    """QEMU with a guest that fails in 64-bit mode, and then stands still."""
    if reason := qemu.unavailable():
        missing("live", reason)
    image = tmp_path / "guest.bin"
    image.write_bytes(boot.GUESTS["long64-flds"].image)
    return [
        qemu.QEMU,
        *("-accel", "kvm", "-cpu", qemu.CPU, "-m", "16M", "-nodefaults", "-display", "none", "-bios", str(image)),
    ]


@pytest.mark.parametrize("memory", [True, False])
def test_qemu(flds: list[str], tmp_path: Path, memory: bool) -> None:
    """Page, log and memory come together in one explanation; memory is in the record only if that was asked for."""
    path = tmp_path / "run.tar"
    options = ["--no-trace", "--json", "--record", str(path), *(["--memory"] if memory else [])]
    with subprocess.Popen([*EXEC, *options, "--", *flds], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith(b"{"))
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    one = json.loads(line)
    guest = boot.GUESTS["long64-flds"]
    assert one["live"]["state"] == "stopped"
    assert one["cpu"]["rip"] == hex(guest.rip)
    assert one["data"][1].endswith("3d90f")
    places = {place["what"]: place for place in one["live"]["guest"]["memory"]}
    assert places["RIP"]["bytes"].startswith(guest.insn.hex(" "))
    assert places["operand"]["gva"] == hex(boot.HOLE)
    assert places["RSP"]["gpa"] == hex(boot.STACK)
    with tarfile.open(path) as tar:
        member = tar.extractfile("kvmwhy-exec/failures.jsonl")
        assert member is not None
        kept = json.loads(member.readline())
    assert (kept["live"]["guest"] is not None) == memory


def test_the_trace(vmm: Path, tracefs: Path) -> None:
    """Where tracefs may be used, the last exits of this vCPU come with it; no instance is left."""
    done = execute("--tracefs", tracefs, "--json", "--", vmm, "long64", "1", "1", "1", "exit")
    (one,) = explained(done)
    assert {event["name"] for event in one["trace"]} >= {"kvm_userspace_exit"}
    assert one["data"][1].endswith(FLD.removeprefix("0x"))
    gone(tracefs, "kvmwhy-exec-")


def gone(tracefs: Path, prefix: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not [name for name in os.listdir(tracefs / "instances") if name.startswith(prefix)]:
            return
        time.sleep(0.02)
    pytest.fail(f"instances are left: {os.listdir(tracefs / 'instances')}")


@pytest.mark.parametrize("victim", ["command", "helper"])
def test_killed(vmm: Path, tracefs: Path, victim: str) -> None:
    """To kill what was started is to kill the VMM; nothing of kvmwhy outlives it, and no instance does."""
    command = [*EXEC, "--tracefs", str(tracefs), "--", str(vmm), "prot32", "1", "1", "1", "hold"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        status = Path(f"/proc/{process.pid}/status").read_text()
        tracer = int(next(line.split()[1] for line in status.splitlines() if line.startswith("TracerPid")))
        assert tracer
        os.kill(process.pid if victim == "command" else tracer, signal.SIGKILL)
        assert ends(tracer)
        if victim == "helper":
            assert process.poll() is None
        process.communicate()
    assert process.returncode == (-signal.SIGKILL if victim == "command" else 0)
    gone(tracefs, f"kvmwhy-exec-{tracer}")


@pytest.fixture
def record(vmm: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run.tar"
    execute("--no-trace", "--record", path, "--", vmm, "prot32", "1", "1", "1", "exit")
    return path


def test_the_record(record: Path) -> None:
    """One file, its owner's alone; `kvmwhy explain` answers from it as at the failure, once."""
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    with tarfile.open(record) as tar:
        names = {name.removeprefix("kvmwhy-exec/").split("/")[0] for name in tar.getnames()}
        assert names == {"manifest.json", "failures.jsonl", "stdout.log", "stderr.log", "pages"}
        manifest = tar.extractfile("kvmwhy-exec/manifest.json")
        assert manifest is not None
        assert json.load(manifest)["exited"] == 0
    command = [sys.executable, "-m", "kvmwhy", "explain", "--json", str(record)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (one,) = map(json.loads, done.stdout.splitlines())
    assert one["mechanism"]["id"] == "emulation-no-handler"
    assert one["stored"]["same"]


def test_a_redacted_record(vmm: Path, tmp_path: Path) -> None:
    """It has failures and how the run ended, and neither the command, nor its output, nor a page."""
    execute("--no-trace", "--redact", "--record", tmp_path, "--", vmm, "prot32", "1", "1", "1", "exit")
    (path,) = tmp_path.glob("kvmwhy-exec-*.tar")
    with tarfile.open(path) as tar:
        assert set(tar.getnames()) == {"kvmwhy-exec/manifest.json", "kvmwhy-exec/failures.jsonl"}
    assert str(vmm).encode() not in path.read_bytes()


@pytest.mark.parametrize("options", [("--no-trace",), ("--no-trace", "--no-log")])
def test_a_daemon_holds_nothing(options: tuple[str, ...]) -> None:
    """Who waits for the end of the output of a command that leaves a daemon behind does not wait for the daemon."""
    done = execute(*options, "--", "sh", "-c", "setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $!")
    daemon = int(done.stdout)
    assert done.returncode == 0
    assert Path(f"/proc/{daemon}/comm").read_text() in {"sleep\n", "setsid\n"}
    os.kill(daemon, signal.SIGKILL)


def test_a_command_that_cannot_be_run(tmp_path: Path) -> None:
    """The statuses of shells: 127 if there is none, 126 if it may not be executed; a script without #! is sh's."""
    assert execute("--", "kvmwhy-no-such-program").returncode == 127
    plain = tmp_path / "plain"
    plain.write_text("echo plain; exit 5\n")
    assert execute("--", plain).returncode == 126
    plain.chmod(0o755)
    done = execute("--", plain)
    assert (done.returncode, done.stdout) == (5, "plain\n")


@pytest.mark.parametrize("where", ["__init__", "_at_end", "run"])
def test_a_helper_that_fails(where: str) -> None:
    """Whatever breaks in it, the command runs to its end, and all that it writes arrives."""
    code = (
        "import sys\nfrom kvmwhy.cli import exec_session\nfrom kvmwhy.cli.main import main\n"
        "def broken(*_, **__):\n    raise RuntimeError('broken on purpose')\n"
        f"exec_session.Session.{where} = broken\nsys.argv[0] = 'kvmwhy'\nmain()\n"
    )
    script = "echo out; (exit 2); sh -c 'echo inner; kill -9 $$'; echo end; exit 3"
    command = [sys.executable, "-c", code, "exec", "--no-trace", "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE * 3)
    assert (done.returncode, done.stdout) == (3, "out\ninner\nend\n")
    assert "broken on purpose" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_is_traced_already() -> None:
    """It runs all the same; what could not be captured is said only if it ended badly."""
    if shutil.which("strace") is None:
        missing("live", "no strace")
    command = ["strace", "-f", "-e", "trace=none", "-o", "/dev/null", *EXEC, "--no-trace", "--"]
    done = subprocess.run([*command, "sh", "-c", "echo out; exit 3"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "")


def test_a_command_that_traces_others() -> None:
    """A tracer's own children are its own: it is not followed itself."""
    if shutil.which("strace") is None:
        missing("live", "no strace")
    done = execute(
        "--no-trace", "--", "strace", "-f", "-e", "trace=none", "-o", "/dev/null", "sh", "-c", "echo in; exit 4"
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, "in\n", "")
