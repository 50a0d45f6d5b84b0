"""The exit statuses of every command; `kvmwhy --help` has the same table."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
NOTHING: Final = 1  # nothing was found
BAD_INPUT: Final = 2  # wrong usage, or unreadable input
NOT_PERMITTED: Final = 3  # or what it takes is not here: /dev/kvm, a kernel of the lab
DAMAGED: Final = 4  # found, but what is missing of the evidence leaves the answer open
INTERRUPTED: Final = 130  # as a shell gives it for SIGINT
