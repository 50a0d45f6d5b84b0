"""Brings the outputs that docs/ shows up to date: what stands behind each ``$ …`` in a block of ``console``.

    .venv/bin/python tools/doc_outputs.py [--check]

The shell runs the commands of a page one after another, in one directory that has nothing but the checkout's examples/
and tests/, 88 columns wide. With --check nothing is written, and the status is 1 if a page differs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
_BLOCK: Final = re.compile(r"^```console\n(?=\$ )(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_WIDE: Final = "88"


def has_outputs(page: str) -> bool:
    """Whether any stands on it."""
    return _BLOCK.search(page) is not None


def updated(page: str) -> str:
    """The page with the outputs of now."""
    with tempfile.TemporaryDirectory() as scratch:
        desk, programs = Path(scratch, "desk"), Path(scratch, "bin")
        desk.mkdir()
        programs.mkdir()
        for shown in ("examples", "tests"):
            (desk / shown).symlink_to(ROOT / shown)
        for name, options in (("python3", ""), ("kvmwhy", "-m kvmwhy ")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {options}"$@"\n')
            (programs / name).chmod(0o755)
        env = os.environ | {"COLUMNS": _WIDE, "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
        env["PATH"] = f"{programs}:{env['PATH']}"

        def shown_again(block: re.Match[str]) -> str:
            commands = [line[2:] for line in block["body"].splitlines() if line.startswith("$ ")]
            return "```console\n" + "".join(f"$ {line}\n{_output(line, desk, env)}" for line in commands) + "```"

        return _BLOCK.sub(shown_again, page)


def _output(command: str, desk: Path, env: dict[str, str]) -> str:
    """What a reader sees who types it, on both streams."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=desk,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    return done.stdout


def main() -> int:
    """Every page of docs/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a page differs")
    parser.add_argument("pages", nargs="*", type=Path, help="only these pages")
    options = parser.parse_args()
    stale = []
    for path in options.pages or sorted((ROOT / "docs").rglob("*.md")):
        page = path.read_text()
        if (now := updated(page)) != page:
            stale.append(path)
            if not options.check:
                path.write_text(now)
    for path in stale:
        sys.stderr.write(f"{path}: {'differs' if options.check else 'updated'}\n")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
