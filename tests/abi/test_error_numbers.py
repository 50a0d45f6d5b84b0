"""Linux's error numbers, on whatever system they are read."""

from __future__ import annotations

import errno
import sys

import pytest

from kvmwhy.abi.error_numbers import NAMES


@pytest.mark.skipif(sys.platform != "linux", reason="this system has numbers of its own")
def test_the_table_is_that_of_linux() -> None:
    """As libc has them. Of two that have two names it is the kernel's own; some only newer hosts have."""
    twice = {35: "EDEADLK", 95: "EOPNOTSUPP"}
    newer = {133: "EHWPOISON", 134: "EFTYPE"}  # Python 3.14, and for the second the headers of Linux 7
    expected = {**errno.errorcode, **newer, **twice}
    assert {number: name for number, name in NAMES.items() if number < 512} == expected
