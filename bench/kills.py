"""What is lost of a storm of failures when `kvmwhy watch` is killed at random moments.

    sudo .venv/bin/python bench/kills.py [--kills 1000] [--seed 1]

Watches are started one after another with the same --out, and killed (SIGKILL) at a random moment while VMMs of
tests/live/vmm.c fail; the next one takes over. In the end each failure has to be in the records once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from kills import Kills  # noqa: E402 -- of the tests
from watching import records  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60, help="stop after this time")
    parser.add_argument("--seed", type=int, default=1)
    wish = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as name:
        directory = Path(name)
        program, tracefs = directory / "vmm", directory / "tracefs"
        subprocess.run(["cc", "-O2", "-pthread", "-o", program, ROOT / "tests" / "live" / "vmm.c"], check=True)
        tracefs.mkdir()
        subprocess.run(["mount", "-t", "tracefs", "nodev", tracefs], check=True)
        try:
            kills = Kills(program, tracefs, directory / "out", wish.seed)
            begin = time.monotonic()
            kills.run(wish.kills, seconds=60 * wish.minutes)
            lost, doubled = kills.missed()
            print(
                f"{kills.kills} kills in {time.monotonic() - begin:.0f} s, {kills.caught} with pages that were not told"
            )
            failed, vcpus = sum(span.failures for span in kills.expected), len(kills.expected)
            print(f"{failed} failures of {vcpus} vCPUs: {lost} lost, {doubled} doubled")
            print(f"{len(records(directory / 'out'))} records, every line of them whole")
        finally:
            subprocess.run(["umount", "-l", tracefs], check=True)


if __name__ == "__main__":
    main()
