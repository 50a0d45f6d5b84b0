"""Print the path of a uv that fits this project, fetching the locked one if there is none.

Needs nothing but Python 3.11: uv is itself in uv.lock, with the address and the SHA-256 of its wheel
for every platform, and a wheel is a zip file.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = ROOT / ".tools" / "uv"
if not OURS.exists() and not os.access(ROOT, os.W_OK):  # somebody else's checkout
    OURS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmwhy" / "uv"
OLDEST = (0, 5)


def main() -> int:
    """Prefer $UV, then a uv on PATH, then the one fetched before."""
    for candidate in (os.environ.get("UV"), shutil.which("uv"), str(OURS)):
        if candidate and fits(candidate):
            print(candidate)
            return 0
    try:
        fetch()
    except (OSError, LookupError, ValueError) as error:
        print(f"cannot fetch uv: {error}\nInstall uv by other means and run this again.", file=sys.stderr)
        return 1
    print(OURS)
    return 0


def fits(uv: str) -> bool:
    """It runs here and is not older than the lock file's format."""
    try:
        out = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    found = re.match(r"uv (\d+)\.(\d+)", out)
    return found is not None and (int(found[1]), int(found[2])) >= OLDEST


def fetch() -> None:
    """Download the wheel that uv.lock names for this platform, check it, keep the program in it."""
    wheel = choose(tomllib.loads((ROOT / "uv.lock").read_text()))
    print("fetching uv (once) ...", file=sys.stderr)
    with urllib.request.urlopen(wheel["url"], timeout=120) as response:  # noqa: S310 -- an https address of the lock file
        data = response.read()
    if "sha256:" + hashlib.sha256(data).hexdigest() != wheel["hash"]:
        raise ValueError("the downloaded wheel is not the one that uv.lock names")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".data/scripts/uv"))
        program = archive.read(name)
    # Two of these may run at once: write aside, then rename.
    OURS.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=OURS.parent, delete=False) as out:
        out.write(program)
    Path(out.name).chmod(0o755)
    Path(out.name).replace(OURS)


def choose(lock: dict[str, Any]) -> dict[str, str]:
    """The first wheel of uv whose tag fits this machine. Raises LookupError if none does."""
    package = next(p for p in lock["package"] if p["name"] == "uv")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if sys.platform == "darwin":
        system = "macosx"
    else:
        system = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    for wheel in package["wheels"]:
        tag = wheel["url"].rsplit("/", 1)[1]
        if system in tag and machine in tag:
            return dict(wheel)
    raise LookupError(f"uv.lock has no uv for {system} on {machine}")


if __name__ == "__main__":
    sys.exit(main())
