"""What uname says of a host."""

from __future__ import annotations

import pytest

from kvmwhy.abi.uname import Series, series_of


@pytest.mark.parametrize(
    ("release", "series"),
    [
        ("6.1.0-56-cloud-amd64", (6, 1)),
        ("7.3.4+deb13-cloud-amd64", (7, 3)),
        ("6.12.96+deb13-riscv64", (6, 12)),
        ("6.19-rc3", (6, 19)),  # a mainline candidate has no point release
        ("7.3+unreleased", (7, 3)),
        ("Linux version 5.14.0-362.el9.x86_64", (5, 14)),  # as /proc/version and the kernel's log begin
        ("4.18.0-372.el8", (4, 18)),
        ("unknown", None),
        ("6", None),
        ("", None),
        (None, None),
    ],
)
def test_the_series_of_a_release(release: str | None, series: Series | None) -> None:
    """Releases of distributions are read down to major and minor; nonsense is no series."""
    assert series_of(release) == series
