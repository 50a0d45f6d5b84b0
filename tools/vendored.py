"""kvmwhy and what it needs, as uv.lock has it, in one directory: what packages for hosts without pip are made of."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = "x86_64-manylinux_2_28"  # Debian 10, RHEL 8 and newer


def uv() -> str:
    """The program, fetched if there is none."""
    found = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "get_uv.py")], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


def vendor(target: Path, *, python: str, extras: Iterable[str] = ("fast",)) -> None:
    """Install the locked wheels for this Python, and kvmwhy's own, into ``target``. Nothing is compiled.

    Raises subprocess.CalledProcessError.
    """
    program = uv()
    chosen = [part for extra in extras for part in ("--extra", extra)]
    platform = ["--python-version", python, "--python-platform", PLATFORM, "--only-binary", ":all:"]
    with tempfile.TemporaryDirectory() as work:
        locked = Path(work) / "requirements.txt"
        export = [program, "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", *chosen]
        subprocess.run([*export, "--output-file", str(locked)], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        install = [program, "pip", "install", "--quiet", "--system-certs", "--target", str(target), *platform]
        subprocess.run([*install, "--require-hashes", "--requirements", str(locked)], check=True)
        subprocess.run([program, "build", "--quiet", "--wheel", "--out-dir", work, str(ROOT)], check=True)
        (wheel,) = Path(work).glob("kvmwhy-*.whl")
        subprocess.run([*install, "--no-deps", str(wheel)], check=True)
    for name in ("bin", "share", ".lock"):  # scripts with this machine's Python in them; pages that go elsewhere
        path = target / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
