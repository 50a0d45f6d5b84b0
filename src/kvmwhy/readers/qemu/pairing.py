"""Which register dump belongs to which announcement.

QEMU's threads queue for its lock, so dumps come in the order of the announcements; but each log is a mixture, and a
dump that may be another vCPU's is marked.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from kvmwhy.deferred_re import deferred
from kvmwhy.readers.qemu.banner import Banner
from kvmwhy.readers.qemu.registers_tolerant import Dump

Pair = tuple[Banner, Dump | None, bool]

_BARE_LINE: Final = 40  # characters: a banner and nothing behind it
_NEAR: Final = 4096  # characters: of one dump, or between a line of code and its dump
# -d cpu, -d int and cpu_abort() print the lazy condition codes, which only TCG has.
_EMULATED: Final = "CCS="
_FPU: Final = deferred(r"\bFCW=[0-9a-f]{4} FSW=|\bFPR0=[0-9a-f]{16} ")  # "info registers" and hw_error()
_CPU_LINE: Final = deferred(r"\bCPU#([0-9]{1,4})[ \t>]{0,16}\n[ \t>]{0,16}$")
# Beside these, registers that were asked for are those of the failure.
_PAUSED: Final = ("internal-error", "paused (", "qemu: hardware error", "qemu: fatal")


class _Queue:
    """The failures whose registers have not come yet, in order."""

    def __init__(self) -> None:
        self.banners: deque[Banner] = deque()
        self.kinds: dict[tuple[object, ...], int] = {}

    def add(self, banner: Banner) -> None:
        self.banners.append(banner)
        key = banner.key()
        self.kinds[key] = self.kinds.get(key, 0) + 1

    def take(self) -> Banner:
        banner = self.banners.popleft()
        key = banner.key()
        self.kinds[key] -= 1
        if not self.kinds[key]:
            del self.kinds[key]
        return banner

    def drop_mentions(self) -> bool:
        """A title that quotes the banner comes before the log, has no words or tail, and no dump of its own.

        Whether that is a guess: in the line right above, another vCPU may have announced the same.
        """
        queue = self.banners
        is_guess = False
        while (
            len(queue) > 1
            and queue[-1].data
            and not queue[0].data
            and not queue[0].tailed
            and queue[0].fields == queue[-1].fields
        ):
            is_guess = is_guess or queue[1].at - queue[0].at <= _BARE_LINE
            self.take()
        return is_guess


def pair(text: str, rest: str, announced: list[Banner], dumped: list[Dump], restarts: list[int]) -> list[Pair]:
    """Give each dump to the failure that waits longest, since QEMU's threads queue for the lock.

    With other failures waiting that is a guess, unless all of them are the same. ``rest`` is the text without KVM's
    intact dumps: whatever tells dumps of other kinds is in there.
    """
    in_order = _without_quotes(_without_echoes(sorted(announced, key=lambda banner: banner.at)))
    dumps = _of_kvm(text, rest, sorted(dumped, key=lambda dump: dump.at), is_announced=bool(in_order))
    return _matched(in_order, dumps, deque(restarts))


def _without_echoes(banners: list[Banner]) -> list[Banner]:
    """Without the lines that only follow another announcement, across its register dump."""
    out: list[Banner] = []
    for banner in banners:
        if not (banner.echo and out and banner.at - out[-1].at < _NEAR):
            out.append(banner)
    return out


def _without_quotes(banners: list[Banner]) -> list[Banner]:
    """Words that anybody may write are the failure itself only where no line of QEMU says the same."""
    printed = {(banner.kind, banner.fields.get("errno")) for banner in banners if not banner.quoted}
    left = [
        banner for banner in banners if not banner.quoted or (banner.kind, banner.fields.get("errno")) not in printed
    ]
    alone = {(banner.kind, banner.fields.get("errno")): banner for banner in reversed(left) if banner.quoted}
    return [banner for banner in left if not banner.quoted or banner in alone.values()]


def _of_kvm(text: str, rest: str, dumps: list[Dump], *, is_announced: bool) -> list[Dump]:
    """Without the dumps of an emulator's log, and those that a person asked for while another failure is shown."""
    if _EMULATED in rest:
        _mark_emulated(text, dumps)
    if "CPU#" in rest or "FCW=" in rest or "FPR0=" in rest:
        _mark_asked_for(text, dumps)
        if not is_announced and any(mark in text for mark in _PAUSED):
            for dump in dumps:
                dump.asked_for = False
    kept = [dump for dump in dumps if not dump.emulated and not (dump.asked_for and is_announced)]
    return _with_code_before(kept)


def _mark_emulated(text: str, dumps: list[Dump]) -> None:
    at = text.find(_EMULATED)
    n = 0
    while at >= 0:
        while n + 1 < len(dumps) and dumps[n + 1].at < at:
            n += 1
        if n < len(dumps) and 0 < at - dumps[n].at < _NEAR:
            dumps[n].emulated = True
        at = text.find(_EMULATED, at + 1)


def _mark_asked_for(text: str, dumps: list[Dump]) -> None:
    for n, dump in enumerate(dumps):
        end = min(dumps[n + 1].at if n + 1 < len(dumps) else len(text), dump.at + _NEAR)
        if heading := _CPU_LINE.search(text, max(0, dump.at - 48), dump.at):
            dump.asked_for, dump.vcpu = True, int(heading[1])
        elif dump.arch == "x86" and _FPU.search(text, dump.at, end):
            dump.asked_for = True


def _with_code_before(dumps: list[Dump]) -> list[Dump]:
    """A line of code above its banner: a report in which the lines were pasted in another order."""
    out: list[Dump] = []
    for dump in dumps:
        last = out[-1] if out else None
        if last and last.is_only_code and dump.can_take_code and dump.at - last.at < _NEAR:
            dump.code = last.code
            dump.damage = [text for text in dump.damage if text != "the register dump is not complete: no Code"]
            dump.damage.append("the line of code stands before the registers, and is taken for theirs")
            out[-1] = dump
        else:
            out.append(dump)
    return out


def _matched(in_order: list[Banner], dumps: list[Dump], restarts: deque[int]) -> list[Pair]:
    banners = deque(in_order)
    queue = _Queue()
    matched: list[Pair] = []
    doubtful_until = -1
    for n, dump in enumerate(dumps):
        while restarts and restarts[0] < dump.at:
            born = restarts.popleft()
            matched += ((banner, None, False) for banner in queue.banners)
            while banners and banners[0].at < born:
                matched.append((banners.popleft(), None, False))
            queue = _Queue()
        while banners and banners[0].at < dump.at:
            queue.add(banners.popleft())
        is_last = n + 1 == len(dumps) or bool(banners and banners[0].at < dumps[n + 1].at)
        guessed = is_last and queue.drop_mentions()
        if queue.banners:
            if len(queue.kinds) > 1 or guessed:
                doubtful_until = queue.banners[-1].at
            banner = queue.take()
            shared = banner.at <= doubtful_until
            if shared:
                banner.damage.append(
                    "several failures were announced before this register dump; it may belong to any of them"
                )
        elif dump.negligible:
            continue
        else:
            banner, shared = Banner(dump.at, "healthy" if dump.asked_for else "other"), False
            if not dump.asked_for:
                banner.damage.append("the line that names the failure is missing; this is only a register dump")
        matched.append((banner, dump, shared or dump.mixed))
    matched += ((banner, None, False) for banner in (*queue.banners, *banners))
    return sorted(matched, key=lambda m: m[0].at)
