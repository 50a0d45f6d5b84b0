"""What is said of a triage, in whatever form: sentences from numbers. What came from a log is made harmless here."""

from __future__ import annotations

import re
import shlex
from datetime import datetime
from math import sqrt
from typing import Final

from kvmwhy.arch.x86.physical_map import IN_SHORT
from kvmwhy.diagnosis import catalogue
from kvmwhy.diagnosis.cause import Fix
from kvmwhy.diagnosis.knowledge.pages import page_of
from kvmwhy.fleet.triage import Group, Outlier, Triage
from kvmwhy.render.safe import safe

WHO: Final = {"host": "host's operator", "vmm": "VMM's author", "guest": "guest's author"}
# The parts of a signature that tell groups of one cause apart, the most telling first.
_TELLING: Final = ("instruction", "rule", "structure", "exit", "place", "event")
_DETAILS: Final = ("failure", "event", "mode", "access", "place", "exit")
_NOT: Final = "not known"
_ARCHIVE: Final = re.compile(r"(.*?\.(?:zip|tgz|tbz2?|txz|tzst|tar(?:\.\w{1,4})?)):", re.IGNORECASE | re.DOTALL)
_LONGEST_PATH: Final = 4096
_LEAST_POINTS: Final = 8  # of a trend that a direction is seen in
_LEAST_COUNT: Final = 10  # in the last two quarters
_SIGMAS: Final = 3.0  # in a page of twenty groups, one in twenty pages has a trend that is none


def summary(found: Triage) -> str:
    """How many, where, since when, in one sentence."""
    if not found.groups:
        return "There is no failure in these records."
    groups = len(found.groups) + found.left_out
    when = f", from {moment(found.start)} to {moment(found.end)}" if found.start else ", at times that no log tells"
    where = _where(found.hosts, found.unnamed, found.files)
    return f"{plural(found.count, 'failure')} in {plural(groups, 'group')}, {where}{when}."


def unsigned(found: Triage) -> str | None:
    """That rows lack the signature which was asked for, how many failures they are, and what to do."""
    if not found.unsigned:
        return None
    which = "These records" if found.unsigned == found.count else f"{found.unsigned:,} of these failures"
    remedy = "group all by --signature v2" if found.signature_version != 2 else "leave out --signature v2"
    return (
        f"{which} have no signature v{found.signature_version}, and are grouped by the one that they have:"
        f" scan their logs again, or {remedy}."
    )


def headline(group: Group) -> str:
    """The cause, else what happened, and what tells the group best from others of that kind."""
    cause = catalogue().get(group.cause)
    known = page_of(_parts(group).get("mechanism", "")) if cause and cause.family == "undecided" else None
    title = known.title if known else cause.title if cause else safe(group.answer, 160)
    name, value = _telling(group)
    return f"{title}: {safe(value, 120)}" if name else title


def details(group: Group) -> str:
    """What else tells it from others, in short."""
    parts, taken = _parts(group), _telling(group)[0]
    return safe(", ".join(f"{name} {parts[name]}" for name in _DETAILS if name in parts and name != taken), 200)


def _telling(group: Group) -> tuple[str, str]:
    parts = _parts(group)
    return next(((name, parts[name]) for name in _TELLING if parts.get(name, _NOT) != _NOT), ("", ""))


def _parts(group: Group) -> dict[str, str]:
    """The parts of a signature, in words."""
    parts = dict(part.partition(" ")[::2] for part in group.why.split(", "))
    if "place" in parts:
        parts["place"] = IN_SHORT.get(parts["place"], parts["place"])
    return parts


def advice(group: Group) -> tuple[tuple[str, str], ...]:
    """Who can do what: whoever runs the hosts comes first, with what was said to them of this failure."""
    cause = catalogue().get(group.cause)
    fix = (cause.fix if cause else Fix())._asdict()
    fix["host"] = safe(group.advice, 2000) or fix["host"]
    return tuple((who, fix[key]) for key, who in WHO.items() if fix[key])


def seen(group: Group, found: Triage) -> str:
    """How often and where."""
    return f"{plural(group.count, 'time')}, {reach(group, found)}"


def reach(group: Group, found: Triage) -> str:
    """On how many hosts, and what part of all that are known."""
    part = f" ({share(group.hosts / found.population)} of all)" if group.hosts > 1 and not found.unnamed else ""
    return _where(group.hosts, group.unnamed, group.files) + part


def _where(hosts: int, unnamed: int, files: int) -> str:
    if not hosts:
        return f"in {plural(files, 'file')}"
    more = f" and in {plural(unnamed, 'file')} without a host's name" if unnamed else ""
    return f"on {plural(hosts, 'host')}{more}"


def outlier(outlier: Outlier, group: Group) -> str:
    """What sets the hosts of a group apart, and how many are known of whom."""
    them = "hosts" if group.hosts else "files"
    of_whom = f" of which it is known ({outlier.known:,} here, {outlier.world:,} in all)" if outlier.world else ""
    return (
        f"{safe(outlier.dimension, 60)} {safe(outlier.value, 120)}: {share(outlier.share)} of its {them} have it,"
        f" {share(outlier.overall)} of all {them}{of_whom}; {share(outlier.hit)} of the {them} that have it are here"
    )


def share(part: float) -> str:
    """As percent, and never all or none where it is not."""
    if 0 < part < 0.005:
        return "under 1%"
    return "over 99%" if 0.995 <= part < 1 else f"{part:.0%}"


def direction(spread: tuple[int, ...]) -> str:
    """Where hosts with failures go in the last quarter, against the quarter before; the last step may not be over.

    Hosts count, not failures: they fail by themselves, so that counts of them scatter by their square root. What may
    well be chance has no direction.
    """
    whole = spread[:-1]
    quarter = len(whole) // 4
    if len(whole) < _LEAST_POINTS or not any(spread):
        return ""
    last, before = sum(whole[-quarter:]), sum(whole[-2 * quarter : -quarter])
    if not last:
        return "none of late"
    if not before:
        return "back again" if any(whole[:-quarter]) else "new"
    if last + before < _LEAST_COUNT:
        return "too few of late for a trend"
    if abs(last - before) < _SIGMAS * sqrt(last + before):
        return "no clear trend"
    return f"rising, ×{last / before:.1f}" if last > before else f"falling, ×{last / before:.1f}"


def command(group: Group) -> str | None:
    """What explains one of them in full: of an archive's member, the archive. None for what is no file of a machine."""
    path = file_of(group.example)
    return None if path is None else f"kvmwhy explain {quoted(path)}"


def file_of(example: str) -> str | None:
    """The file in which an example is: of an archive's member, the archive. None for what is no file of a machine."""
    if "://" in example or len(example) > _LONGEST_PATH:
        return None
    inside = _ARCHIVE.match(example)
    return inside[1] if inside else example


def quoted(path: str) -> str:
    """For a shell; a name that would act on a terminal as bash's ``$'…'``, which spells it out."""
    if path.startswith("-"):
        path = f"./{path}"
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + "".join(map(_spelt, path)) + "'"


def _spelt(char: str) -> str:
    code = ord(char)
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    if 0xDC80 <= code < 0xDD00:  # a byte that is no UTF-8, as Python holds it in names of files
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def span(seconds: float) -> str:
    """``36 hours``, ``5 days``: whole hours, as steps of a trend are."""
    hours = max(1, round(seconds / 3600))
    return plural(hours // 24, "day") if hours >= 48 and hours % 24 == 0 else plural(hours, "hour")


def moment(when: datetime | None) -> str:
    return "?" if when is None else f"{when:%Y-%m-%d %H:%M} UTC"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
