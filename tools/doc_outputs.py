"""Brings the outputs that docs/ shows up to date: what stands behind ``$ kvmwhy …`` in a block of ``console``.

    .venv/bin/python tools/doc_outputs.py [--check]

The commands run in the checkout, 88 columns wide. With --check nothing is written, and the status is 1 if a page
differs.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
_BLOCK: Final = re.compile(r"^```console\n\$ (?P<command>kvmwhy [^\n]+)\n.*?^```$", re.MULTILINE | re.DOTALL)
_WIDE: Final = "88"


def output_of(command: str) -> str:
    """What a reader sees who types it."""
    words = [sys.executable, "-m", "kvmwhy", *shlex.split(command)[1:]]
    env = os.environ | {"COLUMNS": _WIDE, "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout + done.stderr


def updated(page: str) -> str:
    """The page with the outputs of now."""
    return _BLOCK.sub(lambda match: f"```console\n$ {match['command']}\n{output_of(match['command'])}```", page)


def main() -> int:
    """Every page of docs/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a page differs")
    check = parser.parse_args().check
    stale = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        page = path.read_text()
        if (now := updated(page)) != page:
            stale.append(path)
            if not check:
                path.write_text(now)
    for path in stale:
        sys.stderr.write(f"{path.relative_to(ROOT)}: {'differs' if check else 'updated'}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
