"""Asks the index whether kvmwhy installs without a compiler: wheels only, on every platform and Python that it names.

    tools/wheels.py [--python 3.11 …] [--platform NAME …]

Nothing is installed. ``uv`` resolves what a plain ``pip install kvmwhy`` needs, taking no source distribution; what it
cannot resolve is printed, and the exit status is 1. It is 2 where the index cannot be reached.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS: Final = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-musl",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
_UNREACHABLE: Final = re.compile(
    r"error sending request|[Ff]ailed to fetch|dns error|[Cc]onnect(?:ion)? (?:error|refused)"
)


def dependencies() -> list[str]:
    """What the package itself needs, without its extras."""
    declared: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    return declared


def find_uv() -> str:
    command = [sys.executable, str(ROOT / "tools" / "get_uv.py")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def resolve(uv: str, python: str, platform: str, wanted: list[str]) -> subprocess.CompletedProcess[str]:
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--only-binary", ":all:", "--no-config"]
    command += ["--python-version", python, "--python-platform", platform, "-"]
    return subprocess.run(command, input="\n".join(wanted), capture_output=True, text=True, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", nargs="+", default=PYTHONS)
    parser.add_argument("--platform", nargs="+", default=PLATFORMS)
    arguments = parser.parse_args()
    uv, wanted = find_uv(), dependencies()
    asked = [(platform, python) for platform in arguments.platform for python in arguments.python]
    failed = 0
    with ThreadPoolExecutor(4) as pool:  # it waits for the index, not for the processor
        answers = pool.map(lambda pair: resolve(uv, pair[1], pair[0], wanted), asked)
        for (platform, python), resolved in zip(asked, answers, strict=True):
            if resolved.returncode == 0:
                names = re.findall(r"^([a-z][a-z0-9.-]*==\S+)", resolved.stdout, re.MULTILINE)
                print(f"{platform} {python}: {' '.join(names)}")
                continue
            if _UNREACHABLE.search(resolved.stderr):
                print(f"the index cannot be reached: {resolved.stderr.strip()}", file=sys.stderr)
                return 1 if failed else 2
            failed += 1
            print(f"{platform} {python}: NOT RESOLVED\n{resolved.stderr.strip()}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
