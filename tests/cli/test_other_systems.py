"""kvmwhy where there is no Linux: reading works, and what asks a live host says that it needs Linux."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
LOG = str(ROOT / "examples" / "avx-move-on-mmio.log")
# CPython's documentation: "Availability: Unix" (fcntl, termios, resource, pwd, grp).
WITHOUT = ("fcntl", "termios", "resource", "pwd", "grp")

# Runs each command of argv[2], a JSON list of lists of words, with the modules of argv[1] gone and the names that
# Windows has not: CPython's documentation of os and signal. With argv[3], the system has that name as well.
_HOST = r"""
import io, json, os, platform, signal, sys

hidden = set(sys.argv[1].split(","))
commands = json.loads(sys.argv[2])
system = sys.argv[3]


class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


for name in hidden:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Refuse)
# Windows has no calls that take a directory's descriptor. Where shutil, at its import, sees some, it needs O_NONBLOCK.
os.supports_dir_fd.clear()
os.supports_fd.clear()
import ctypes, subprocess, tempfile, click, rich  # what looks at the system's name when it is imported
try:
    import numpy  # asks os.uname for the kernel, where the platform is linux; pyarrow imports it if it is there
except ImportError:
    pass

for module, names in (
    (os, ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "fork", "getuid", "geteuid", "pread", "sched_getaffinity", "uname")),
    (signal, ("SIGRTMIN", "SIGPIPE", "SIGHUP", "SIGALRM", "pthread_kill", "pthread_sigmask", "sigtimedwait")),
):
    for name in names:
        delattr(module, name)
from kvmwhy.cli import main

if system:
    sys.platform = {"Windows": "win32", "Darwin": "darwin"}[system]
    platform.system = lambda: system
    platform.machine = lambda: {"Windows": "AMD64", "Darwin": "arm64"}[system]
answers = []
out, err = sys.stdout, sys.stderr
for words in commands:
    sys.argv = ["kvmwhy", *words]
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in "12")
    try:
        status = main.main()
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        sys.stderr = err  # for the traceback
        raise
    answers.append([status or 0, *(stream.buffer.getvalue().decode() for stream in (sys.stdout, sys.stderr))])
sys.stdout, sys.stderr = out, err
json.dump(answers, sys.stdout)
"""


class Answer(NamedTuple):
    status: int
    out: str
    err: str


def _run(commands: list[list[str]], system: str = "") -> list[Answer]:
    done = subprocess.run(
        [sys.executable, "-c", _HOST, ",".join(WITHOUT), json.dumps(commands), system],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    answers: list[list[Any]] = json.loads(done.stdout)
    return [Answer(*answer) for answer in answers]


def test_reading(tmp_path: Path) -> None:
    """A log is explained, found among others, and redacted; the atlas and the causes answer."""
    kept = tmp_path / "failures.jsonl"
    explain, brief, scan, redact, atlas, cause = _run(
        [
            ["explain", LOG],
            [LOG, "--brief"],
            ["scan", "--jobs", "1", str(ROOT / "examples"), "--out", str(kept)],
            ["redact", LOG],
            ["atlas", "vmovdqu ymm0,[rax]"],
            ["cause", "0x80000021"],
        ]
    )
    # The bytes of the log, c5 fe 6f 03, are VMOVDQU: Intel's manual, volume 2, MOVDQU.
    assert (explain.status, explain.err) == (0, "")
    assert "vmovdqu ymm0,[rbx]" in explain.out
    assert (brief.status, brief.out.count("\n")) == (0, 1)
    logs = sorted(path.name for path in (ROOT / "examples").glob("*.log"))
    assert scan.status == 0, scan.err
    found = kept.read_text()
    assert [name for name in logs if name in found] == logs
    assert redact.status == 0, redact.err
    assert "RIP" in redact.out
    assert atlas.status == 0, atlas.err
    assert "vmovdqu" in atlas.out
    assert cause.status == 0, cause.err
    assert "entry-refused-guest-state" in cause.out


def test_triage(tmp_path: Path) -> None:
    """What a scan kept is sorted into causes."""
    pytest.importorskip("duckdb")
    kept = str(tmp_path / "failures.parquet")
    scan, triage = _run(
        [["scan", "--jobs", "1", str(ROOT / "examples"), "--out", kept], ["triage", kept]],
    )
    assert scan.status == 0, scan.err
    assert triage.status == 0, triage.err
    assert "jump-into-vga-window.log" in triage.out


@pytest.mark.parametrize("system", ["Windows", "Darwin"])
def test_live_commands(system: str, tmp_path: Path) -> None:
    """What asks a live host says in one sentence that it needs Linux; a guest says that KVM is there alone."""
    image = tmp_path / "flds.bin"
    image.write_bytes(b"\xd9\x03")
    live = [["doctor"], ["watch"], ["attach", "--all"], ["exec", "--", "true"], ["probe"], ["serve"]]
    *refused, run = _run([*live, ["run", str(image), "--on", "kvm"]], system)
    for words, answer in zip(live, refused, strict=True):
        assert (answer.status, answer.out) == (3, ""), answer
        assert answer.err.startswith(f"kvmwhy: `kvmwhy {words[0]}` needs Linux"), answer
        assert answer.err.count("\n") == 1
    assert (run.status, run.out) == (3, ""), run
    assert "KVM is a part of Linux" in run.err
    assert run.err.count("\n") == 1


def test_model() -> None:
    """A guest runs on the model of KVM, and its failure is explained."""
    pytest.importorskip("unicorn")
    [demo] = _run([["demo", "--on", "model"]])
    assert demo.status == 0, demo.err
    assert "fld" in demo.out
