"""Kernel and QEMU releases: does one lie within a bug's range?

A mainline number says it at once. Stable kernels take fixes over at a point release, and distributions at any
time: where the number cannot tell, the answer is "maybe", never a guess.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final, Literal, NamedTuple

from msgspec import Struct

Within = Literal["yes", "no", "maybe"]

_PATTERNS: Final = {
    "number": r"\D{0,16}?(\d{1,3})\.(\d{1,4})(?!\d)(?:\.(\d{1,6})(?!\d))?",
    "candidate": r"-rc\d|-next\b",
    # Their numbers name a base, not what is in it: RHEL and its clones, SLES, openEuler, Anolis, Kylin.
    "vendor": r"\.(?:el|oe|an|al|ky|tl)\d(?!.{0,20}elrepo)|-150\d00|-default\b",
    # Debian and Ubuntu put an ABI number where others have the point release: 6.1.0-18-amd64, 5.15.0-73-generic.
    "abi": r"\d{1,3}\.\d{1,4}\.0-\d{1,5}-[a-z]",
}


@cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(_PATTERNS[name])


class Release(NamedTuple):
    """``patch`` is the point release, ``None`` if the name hides it."""

    major: int
    minor: int
    patch: int | None
    vendor: bool  # backports at will
    candidate: bool  # -rcN: between two releases

    @property
    def series(self) -> tuple[int, int]:
        return self.major, self.minor


class Affected(Struct, frozen=True):
    """The releases that have a bug, as ``uname -r`` or QEMU's version starts. ``None``: open at that end.

    ``stable`` has the first fixed point release of each older series that got the fix; it need not be
    complete, so another series may have it as well, unless ``only``: then no other series has it.
    """

    since: str | None = None
    fixed: str | None = None
    stable: tuple[str, ...] = ()
    only: bool = False

    @property
    def text(self) -> str:
        """``from 5.16 to before 6.13``, with the point releases that have the fix."""
        out = {
            (True, True): f"from {self.since} to before {self.fixed}",
            (True, False): f"from {self.since} on",
            (False, True): f"before {self.fixed}",
            (False, False): "any",
        }[bool(self.since), bool(self.fixed)]
        return f"{out}; fixed in {', '.join(self.stable)} as well" if self.stable else out


@lru_cache(maxsize=64)
def release_of(name: str | None) -> Release | None:
    """``5.15.39-1-pve``, ``6.1.0-18-amd64``, ``4.18.0-372.el8``; ``None`` if it does not start with a number."""
    match = _pattern("number").match(name) if name else None
    if match is None or name is None:
        return None
    vendor = bool(_pattern("vendor").search(name))
    patch = None if _pattern("abi").match(name) else int(match[3] or 0)
    return Release(int(match[1]), int(match[2]), patch, vendor, bool(_pattern("candidate").search(name)))


@lru_cache(maxsize=1024)
def _triple(version: str) -> tuple[int, int, int]:
    major, minor, *rest = (int(part) for part in version.split("."))
    return major, minor, rest[0] if rest else 0


def kernel_within(name: str | None, affected: Affected) -> Within:
    """Whether the host's kernel has the bug."""
    release = release_of(name)
    if release is None:
        return "maybe"
    since = _triple(affected.since) if affected.since else None
    fixed = _triple(affected.fixed) if affected.fixed else None
    if fixed and release.series >= fixed[:2]:
        return "maybe" if release.candidate and release.series == fixed[:2] else "no"
    if release.vendor:
        return "maybe"
    if since and release.series < since[:2]:
        return "no"
    if release.candidate:
        return "maybe" if since and release.series == since[:2] else "yes"
    return _stable_within(release, affected) if fixed else "yes"


def _stable_within(release: Release, affected: Affected) -> Within:
    """A series older than the fix: did a point release bring it?"""
    for version in affected.stable:
        major, minor, patch = _triple(version)
        if release.series == (major, minor):
            if release.patch is None:
                return "maybe"
            return "no" if release.patch >= patch else "yes"
    return "yes" if affected.only or release.patch == 0 else "maybe"


def qemu_within(name: str | None, affected: Affected) -> Within:
    """Whether this QEMU has the bug. A release candidate of 5.1 calls itself 5.0.9x, and counts as such."""
    match = _pattern("number").match(name) if name else None
    if match is None:
        return "maybe"
    version = (int(match[1]), int(match[2]), int(match[3] or 0))
    if affected.fixed and version >= _triple(affected.fixed):
        return "no"
    if affected.since and version < _triple(affected.since):
        return "no"
    return "yes"
