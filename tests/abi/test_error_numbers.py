"""Linux's error numbers, on whatever system they are read."""

from __future__ import annotations

import errno
import sys

import pytest

from kvmwhy.abi.error_numbers import NAMES


@pytest.mark.skipif(sys.platform != "linux", reason="this system has numbers of its own")
def test_the_table_is_that_of_linux() -> None:
    """As libc has them, but for two that have two names: there it is the kernel's own."""
    twice = {35, 95}
    libc = {number: name for number, name in errno.errorcode.items() if number not in twice | {133}}  # newer Pythons
    assert {number: name for number, name in NAMES.items() if number < 512 and number not in twice | {133}} == libc
    assert (NAMES[35], NAMES[95], NAMES[133]) == ("EDEADLK", "EOPNOTSUPP", "EHWPOISON")
