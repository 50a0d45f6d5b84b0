"""The words of an internal error that a program prints behind the line that names it, in whatever form."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.readers.vmm_messages.message import Message
from kvmwhy.readers.word_dump import words_in

_REACH: Final = 4000
_OTHERS: Final = re.compile(r"extra data\[|\bKVM internal error\. Suberror")  # QEMU's


def with_words(text: str, message: Message, until: int) -> tuple[Message, dict[int, int], tuple[str, ...]]:
    """A message with the words between it and the next one, those behind a gap, and what is damaged."""
    if message.exit_reason != 17 or message.data:
        return message, {}, ()
    end = min(until, message.stop + _REACH)
    other = _OTHERS.search(text, message.stop, end)
    dump = words_in(text[message.start : other.start() if other else end])
    if dump is None or not (dump.data or dump.apart):
        return message, {}, ()
    if None not in {message.suberror, dump.suberror} and message.suberror != dump.suberror:
        return message, {}, ()
    counted = message.ndata if message.ndata is not None else dump.ndata
    whole = None if dump.apart else len(dump.data)
    named = message.suberror if message.suberror is not None else dump.suberror
    more = message._replace(suberror=named, ndata=whole if counted is None else counted, data=dump.data)
    return more, dict(dump.apart), dump.damage
