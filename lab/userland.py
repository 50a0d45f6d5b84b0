"""Debian's Python of another architecture with what kvmwhy needs, as a root file system for a lab's machine.

Everything comes from one suite through kernels.py's private apt; msgspec, capstone and pytest as Debian has them,
so that no wheel is asked for. Documentation, character sets and the interpreter's own tests are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lab import kernels
from lab.architectures import Architecture
from lab.kernels import Step

SUITE: Final = "trixie"
PYTHON: Final = "python3.13"
_PACKAGES: Final = (
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib"),
    *("python3-msgspec", "python3-capstone", "python3-click", "python3-rich", "python3-pyelftools"),
    *("python3-pygments", "python3-markdown-it", "python3-mdurl"),  # what rich imports
    *("python3-pytest", "python3-pluggy", "python3-iniconfig", "python3-packaging"),
    *("python3-hypothesis", "python3-sortedcontainers", "python3-attr"),
    *("libc6", "libgcc-s1", "libcapstone5", "zlib1g", "libexpat1", "libffi8", "libssl3t64", "libbz2-1.0", "liblzma5"),
    *("libcrypt1", "libzstd1", "libuuid1"),
)
_LEFT_OUT: Final = (
    "usr/share",
    "usr/sbin",
    "var",
    f"usr/lib/{PYTHON}/test",
    f"usr/lib/{PYTHON}/idlelib",
    f"usr/lib/{PYTHON}/ensurepip",
    f"usr/lib/{PYTHON}/pydoc_data",
    "usr/lib/python3/dist-packages/pygments/lexers",
)
_LINKS: Final = {"bin": "usr/bin", "lib": "usr/lib", "usr/bin/python3": PYTHON}


def root_of(work: Path, architecture: Architecture) -> Path:
    """Where ``fetch`` puts it."""
    return work / "userland" / architecture.name


def is_fetched(work: Path, architecture: Architecture) -> bool:
    return (root_of(work, architecture) / "complete").exists()


def fetch(work: Path, architecture: Architecture, mirror: str = kernels.MIRROR) -> Iterator[Step]:
    """Make the root of this architecture, unless it is there."""
    name = f"Python for {architecture.name}"
    if is_fetched(work, architecture):
        yield Step("done", f"{name}: is here")
        return
    yield kernels.attempt(name, lambda: _make(work, architecture, mirror))


def _make(work: Path, architecture: Architecture, mirror: str) -> str:
    target = root_of(work, architecture)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = kernels.updated(work, SUITE, mirror, architecture)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        whole = Path(name) / "root"
        kernels.run_apt(["download", *_PACKAGES], environment, Path(name))
        for package in sorted(Path(name).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, whole], check=True)
        shutil.copytree(whole, target, symlinks=True, ignore=lambda path, names: _unwanted(whole, path, names))
    for link, to in _LINKS.items():
        (target / link).symlink_to(to)
    (target / "complete").touch()
    return f"from {SUITE}"


def _unwanted(whole: Path, path: str, names: list[str]) -> set[str]:
    below = os.path.relpath(path, whole)
    return {
        name
        for name in names
        if os.path.normpath(f"{below}/{name}") in _LEFT_OUT or name in {"gconv", "__pycache__"} or name.endswith(".a")
    }
