"""A command under `kvmwhy exec` looks as it does without."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exec_cases import CASES, Case, Channel, look

EXEC = (sys.executable, "-m", "kvmwhy", "exec")


@pytest.mark.parametrize(
    ("case", "channel"),
    [pytest.param(case, channel, id=f"{case.name}, {channel}") for case in CASES for channel in case.channels],
)
def test_nothing_shows(case: Case, channel: Channel, tmp_path: Path) -> None:
    """Exit status, signals, and every byte of output are those of the command itself."""
    alone = look(case.command, case, channel, tmp_path)
    under = look((*EXEC, "--no-trace", "--", *case.command), case, channel, tmp_path)
    assert under == alone
