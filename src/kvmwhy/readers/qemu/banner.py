"""The lines that announce a failure, and the words behind them.

They are plain fprintf of several vCPU threads, without a common lock: heads and words of different
vCPUs may alternate. Words are given out first come, first served; where two failures competed for
them, that is right only if both got the same, and what differs is left out in the end. A word whose
predecessors are missing is kept apart, under its index.
"""

from __future__ import annotations

from typing import Any, Final

from kvmwhy.abi.internal_error import MAX_NDATA
from kvmwhy.record import Arch

# strerror() of glibc, and of musl where it differs.
ERRNO: Final = {
    "Bad address": "EFAULT",
    "Invalid argument": "EINVAL",
    "Input/output error": "EIO",
    "I/O error": "EIO",
    "Function not implemented": "ENOSYS",
    "Cannot allocate memory": "ENOMEM",
    "Out of memory": "ENOMEM",
    "Memory page has hardware error": "EHWPOISON",
    "Device or resource busy": "EBUSY",
    "Resource busy": "EBUSY",
    "No such device or address": "ENXIO",
    "No such device": "ENODEV",
    "Exec format error": "ENOEXEC",
    "Operation not permitted": "EPERM",
    "Permission denied": "EACCES",
    "Interrupted system call": "EINTR",
    "Resource temporarily unavailable": "EAGAIN",
    "Operation not supported": "EOPNOTSUPP",
    "Not supported": "EOPNOTSUPP",
    "Bad file descriptor": "EBADF",
    "No such file or directory": "ENOENT",
    "No space left on device": "ENOSPC",
    "File exists": "EEXIST",
    "Argument list too long": "E2BIG",
}
ERRNO_NUMBERS: Final = {
    1: "EPERM",
    2: "ENOENT",
    4: "EINTR",
    5: "EIO",
    6: "ENXIO",
    7: "E2BIG",
    8: "ENOEXEC",
    11: "EAGAIN",
    12: "ENOMEM",
    13: "EACCES",
    14: "EFAULT",
    16: "EBUSY",
    17: "EEXIST",
    19: "ENODEV",
    22: "EINVAL",
    28: "ENOSPC",
    38: "ENOSYS",
    95: "EOPNOTSUPP",
    133: "EHWPOISON",
}


def errno_of(message: str) -> tuple[str, str] | None:
    """The errno that ``message`` begins with, in any language, and its words."""
    for words, errno in ERRNO.items():
        if message.startswith(words):
            return errno, words
    if not message:
        return None
    from kvmwhy.readers.errno_spelled import find_errno  # most logs are English

    spelled = find_errno(message)
    return (spelled.name, message[: spelled.end]) if spelled and spelled.start == 0 else None


# Failures that can wait for words at one time; more are no log, but an attack on this reader.
_MOST_OPEN: Final = 256
_MOST_REMARKS: Final = 8


class Banner:
    """A failure as far as its head tells; the registers come later."""

    def __init__(self, at: int, kind: str, **fields: Any) -> None:
        self.at = at
        self.kind = kind
        self.fields = fields
        self.data: list[int] = []
        self.apart: dict[int, int] = {}  # words behind a gap, by index
        self.arch: Arch | None = None  # where the words of the line are one architecture's
        self.vcpu: int | None = None
        self.quoted = False  # these words are in many a sentence, too
        self.echo = False  # QEMU says this behind whatever else it announced
        self.closed = False  # no more words can follow, so they can be counted
        self.tailed = False  # its own last line was there
        self.torn = False  # words were lost, so they cannot
        self.rivals: list[Banner] | None = None  # those which waited for the same word
        self.damage: list[str] = []

    def tear(self, why: str) -> None:
        if not self.torn:
            self.torn = True
            self.damage.append(why)

    def remark(self, what: str) -> None:
        """Say it; a log can repeat itself without end."""
        if len(self.damage) < _MOST_REMARKS:
            self.damage.append(what)

    def keep_apart(self, index: int, value: int) -> None:
        """Keep a word whose predecessors have not come."""
        self.apart.setdefault(index, value)

    def append(self, value: int) -> None:
        """Take the next word, and those that waited for it."""
        self.data.append(value)
        while (index := len(self.data)) in self.apart:
            self.data.append(self.apart.pop(index))

    def key(self) -> tuple[object, ...]:
        """What tells it from another vCPU's."""
        return (self.kind, *self.fields.items(), *self.data)

    def outcome(self) -> dict[str, Any]:
        """The fields of the record."""
        if self.kind != "internal-error":
            return {"kind": self.kind, **self.fields}
        if self.apart:
            self.tear(_gap(len(self.data), self.apart))
        counted = self.closed and not self.torn
        ndata = len(self.data) if counted else None
        return {
            "kind": self.kind,
            "exit_reason": 17,
            "data": tuple(self.data),
            "data_apart": dict(sorted(self.apart.items())),
            "ndata": ndata,
            **self.fields,
        }


class Heads:
    """All announced failures of a text, in order."""

    def __init__(self) -> None:
        self.found: list[Banner] = []
        self.open: list[Banner] = []  # may get more words
        self.doubtful: list[Banner] = []  # were closed, but perhaps for another's sake
        self.waiting = 0  # failures whose registers have not come

    def add(self, banner: Banner) -> Banner:
        self.found.append(banner)
        self.waiting += 1
        if banner.kind == "internal-error":
            self.open.append(banner)
            del self.open[:-_MOST_OPEN]
        return banner

    def word(self, at: int, index: int, value: int | None, digits: str) -> None:
        """Give ``extra data[index]`` to the failure that waits for it."""
        fits = [b for b in self.open if len(b.data) == index] or [b for b in self.doubtful if len(b.data) == index]
        if not fits and index == 0 and any(_was_overtaken(b) for b in self.open):
            return  # whose first word is whose cannot be told any more: _settle() keeps neither
        if not fits and index == 0 and not any(b.data[:1] == [value] for b in self.open):
            nameless = self.add(Banner(at, "internal-error", suberror=None))
            nameless.damage.append("the line that names the suberror is missing")
            fits = [nameless]
        if not fits:
            self._stray(at, index, value, digits)
            return
        if len(fits) > 1:
            _compete(fits)
        banner = fits[-1]
        if banner.torn:
            return
        if value is None or index >= MAX_NDATA:
            banner.tear(f"extra data[{index}] is cut: {digits[:40]!r}" if value is None else _too_many(index))
        else:
            banner.append(value)

    def tail(self) -> None:
        """``emulation failure``: the words of a suberror 1 end."""
        fits = [b for b in self.open if b.fields["suberror"] in {1, None} and not b.closed]
        if fits:
            banner = max(fits, key=lambda b: len(b.data))
            banner.fields["suberror"] = 1  # QEMU prints this line for no other
            banner.closed = banner.tailed = True
            if len(fits) == 1:
                self.open.remove(banner)
            elif any(0 < len(b.data) < len(banner.data) for b in fits):
                banner.tear("the line 'emulation failure' may be another vCPU's; the words are not counted")

    def dump(self) -> None:
        """A register dump begins: words come long before, unless another vCPU's dump it is."""
        self.doubtful = []
        for banner in self.open:
            if banner.fields["suberror"] == 1 and not banner.closed:
                banner.damage.append("the line 'emulation failure' is missing, and perhaps words before it")
            banner.closed = True
        if self.waiting > 1:
            self.doubtful = self.open
        self.open = []
        self.waiting = max(0, self.waiting - 1)

    def forget(self) -> None:
        """Another VM begins: what waits now waits in vain."""
        self.open, self.doubtful, self.waiting = [], [], 0

    def end(self) -> None:
        """The text ends: compare those that competed for words."""
        for banner in self.open:
            if banner.data and banner.fields["suberror"] == 1 and not banner.closed:
                banner.tear("the line 'emulation failure' is missing, and perhaps words before it")
        for banner in self.found:
            if banner.rivals and banner is banner.rivals[0]:
                _settle(banner.rivals)

    def _stray(self, at: int, index: int, value: int | None, digits: str) -> None:
        """A word that nobody waits for: a line is there twice, or lines before it are lost."""
        if any(b.data[index : index + 1] == [value] for b in self.open):
            return
        if len(self.open) > 1:
            why = f"extra data[{index}] {digits[:18]} does not follow the words before it; it may be any vCPU's"
            for banner in self.open:
                banner.tear(why)
            self.open = []
            return
        if not self.open:
            last = self.found[-1] if self.found else None
            if last and (last.data[index : index + 1] == [value] or last.apart.get(index) == value):
                return
            if last and self.waiting:
                last.remark(f"extra data[{index}] {digits[:18]} came late; it may be any vCPU's")
                return
            nameless = self.add(Banner(at, "internal-error", suberror=None))
            nameless.damage.append("the line that names the suberror is missing")
        if value is None:
            self.open[-1].tear(f"extra data[{index}] is cut: {digits[:40]!r}")
        elif index >= MAX_NDATA:
            self.open[-1].tear(_too_many(index))
        elif index < len(self.open[-1].data):
            self.open[-1].tear(f"extra data[{index}] is there twice, the second time as {digits[:18]}")
        else:
            self.open[-1].keep_apart(index, value)


def _was_overtaken(banner: Banner) -> bool:
    """It has the first word for which another waited too, whose last line has come since without any."""
    return any(rival.tailed and not rival.data for rival in banner.rivals or ())


def _too_many(index: int) -> str:
    return f"extra data[{index}] cannot exist: the page holds {MAX_NDATA} words"


def _gap(first: int, apart: dict[int, int]) -> str:
    missing = [n for n in range(first, max(apart)) if n not in apart] or [first]
    names = f"extra data[{missing[0]}]" if len(missing) == 1 else f"extra data[{missing[0]}] to [{missing[-1]}]"
    return f"{names} {'is' if len(missing) == 1 else 'are'} missing; the words behind are shown by themselves"


def _compete(fits: list[Banner]) -> None:
    rivals = fits[-1].rivals
    if rivals is None:
        rivals = fits[-1].rivals = [fits[-1]]
    for banner in fits:
        if banner.rivals is not rivals:
            for other in banner.rivals or [banner]:
                other.rivals = rivals
                rivals.append(other)


def _settle(rivals: list[Banner]) -> None:
    """Keep only what all of them have; one that got nothing of the same kind takes nothing away."""
    suberrors = {b.fields["suberror"] for b in rivals}
    filled = [b for b in rivals if b.data] if len(suberrors) == 1 else rivals
    shortest = min((len(b.data) for b in filled), default=0)
    common = 0
    while common < shortest and len({b.data[common] for b in filled}) == 1:
        common += 1
    if all(len(b.data) == common for b in filled):
        return
    for banner in filled:
        lost = len(banner.data) - common
        del banner.data[common:]
        banner.tear(f"words of several vCPUs alternate from extra data[{common}] on; {lost} are left out")
