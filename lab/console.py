"""What a script of the lab says to a person: what it did on stdout, what is wrong on stderr."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def complain(text: str) -> None:
    sys.stderr.write(f"lab: {text}\n")
