"""Blocks whose lines are records with fields, as journald, docker and Kubernetes write them: the messages alone.

What one writer said is taken out of its records at the speed of a JSON decoder, if every line has the same fields and
whoever wrote the first wrote all; otherwise it is left to the readers, who take each line in hand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from kvmwhy.ingest.log_prefix import MESSAGE, WHO, peel, text_of
from kvmwhy.ingest.wrapping import can_be_wrapped

_PARTIAL: Final = {"log", "stream"}  # docker's: a line that has no end goes on in the next record
_MOST_FIELDS: Final = 100


class _Shape(NamedTuple):
    """Records with certain fields: how many lines of them are decoded, and what to take of each."""

    decode: Callable[[bytes], list[Any]]
    message: Callable[[Any], Any]
    who: Callable[[Any], Any]
    partial: bool


def messages(block: bytes) -> bytes | None:
    """What the lines of a block say, a line for each; ``None`` if that is not certain."""
    told = _of_json(block) if block.lstrip(b" \t").startswith(b"{") else _of_logfmt(block)
    if told is None:
        return None
    said, partial = told
    try:
        text = "\0".join(said)
    except TypeError:  # journald gives what is no clean text as an array of bytes
        read = [text_of(message) for message in said]
        if None in read:
            return None
        text = "\0".join(message for message in read if message is not None)
    if partial and (text.count("\n\0") != len(said) - 1 or not text.endswith("\n")):
        return None
    text = text.removesuffix("\n").replace("\n\0", "\0")
    if "\n" in text or text.count("\0") != len(said) - 1:
        return None
    text = text.replace("\0", "\n")
    if can_be_wrapped(text):
        return None
    return (text + "\n" if block.endswith(b"\n") else text).encode("utf-8", "replace")


def _of_json(block: bytes) -> tuple[list[Any], bool] | None:
    """The messages, and whether what has no line end goes on."""
    try:
        first = msgspec.json.decode(block.partition(b"\n")[0])
        shape = _shape(tuple(first)) if isinstance(first, dict) else None
        records = shape.decode(block) if shape else []
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not records or not shape or len(records) != block.count(b"\n") + (not block.endswith(b"\n")):
        return None
    who = list(map(shape.who, records))
    if who.count(who[0]) != len(who):
        return None
    return list(map(shape.message, records)), shape.partial


@lru_cache(maxsize=256)
def _shape(names: tuple[str, ...]) -> _Shape | None:
    message = next((name for name in MESSAGE if name in names), None)
    if message is None or len(names) > _MOST_FIELDS:
        return None
    own = {name: f"f{n}" for n, name in enumerate(names)}
    wanted = [name for name in names if name in WHO]
    fields = [(own[name], Any if name in {message, *wanted} else msgspec.Raw) for name in names]
    renamed = {mine: name for name, mine in own.items()}
    record = msgspec.defstruct("Record", fields, rename=renamed, forbid_unknown_fields=True)
    who = attrgetter(*(own[name] for name in wanted)) if wanted else _nobody
    decode = msgspec.json.Decoder(record).decode_lines
    return _Shape(decode, attrgetter(own[message]), who, set(names) >= _PARTIAL)


def _nobody(_: object) -> None:
    return None


def _of_logfmt(block: bytes) -> tuple[list[Any], bool] | None:
    told = [peel(line) for line in block.decode("utf-8", "replace").removesuffix("\n").split("\n")]
    said = [one.text for one in told if one and one.decoded and not one.goes_on and told[0] and one.who == told[0].who]
    return (said, False) if len(said) == len(told) else None
