"""Numbers that no CPU and no kernel prints: a record has none that is wider than 64 bits, whatever a text has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import fields, replace

from kvmwhy.record import Failure

_ENCODER: Final = msgspec.msgpack.Encoder()
_LOWEST, _HIGHEST = -1 << 63, (1 << 64) - 1
_DAMAGE: Final = "a number wider than 64 bits"


class _Wide:
    """Stands where such a number was."""


_WIDE: Final = _Wide()


def of_64_bits(failure: Failure) -> Failure:
    """The record; without what is too wide, which is named under its damage.

    Every reader's patterns could bound their digits, and one would be forgotten. To ask whether it can be encoded is
    cheap.
    """
    try:
        _ENCODER.encode(failure)
    except OverflowError:
        narrow = _narrow(failure)
        assert isinstance(narrow, Failure)  # noqa: S101 -- its only field without a default is a word
        return replace(narrow, damage=(*narrow.damage, _DAMAGE))
    return failure


def _narrow(value: Any) -> Any:
    """The value without numbers that are too wide; ``_WIDE`` if nothing is left of it."""
    if isinstance(value, int):
        return value if _LOWEST <= value <= _HIGHEST else _WIDE
    if isinstance(value, msgspec.Struct):
        return _narrow_struct(value)
    if isinstance(value, Mapping):
        pairs = ((_narrow(key), _narrow(content)) for key, content in value.items())
        return {key: content for key, content in pairs if key is not _WIDE and content is not _WIDE}
    if isinstance(value, tuple):
        items = [_narrow(item) for item in value]
        return tuple(items[: items.index(_WIDE)] if _WIDE in items else items)  # an item's place tells what it is
    return value


def _narrow_struct(value: msgspec.Struct) -> Any:
    kept: dict[str, Any] = {}
    for field in fields(value):
        content = _narrow(getattr(value, field.name))
        if content is not _WIDE:
            kept[field.name] = content
        elif field.required:
            return _WIDE
    return type(value)(**kept)
