"""A number wider than any of a CPU or kernel never ends kvmwhy: the rest is explained, and it is named as damage."""

from __future__ import annotations

import json
import re
from itertools import islice

import msgspec
import pytest

import kvmwhy
from kvmwhy.readers import read
from pipeline.texts import own

_NUMBER = re.compile(rb"\b(?:0x)?(?:[0-9]+|(?<=0x)[0-9a-f]+)\b")
_WIDE = (b"9" * 25, b"0x" + b"f" * 25)
_TEXTS = [name for name in own() if not name.endswith(".gz")]


def widened(text: bytes, step: int) -> list[bytes]:
    """The text with one of its numbers replaced, for every ``step``-th of them."""
    places = islice(_NUMBER.finditer(text), 0, None, step)
    return [text[: m.start()] + _WIDE[n % 2] + text[m.end() :] for n, m in enumerate(places)]


@pytest.mark.parametrize("name", _TEXTS[::7])
def test_a_genuine_text_with_a_wide_number_is_explained(name: str) -> None:
    """Whichever number it is, what is read can be written as JSON and be read back."""
    text = own()[name][: 8 << 10]
    for data in widened(text, max(1, len(_NUMBER.findall(text)) // 40)):
        for diagnosis in kvmwhy.explain(data):
            json.loads(kvmwhy.to_json(diagnosis))
            kvmwhy.to_text(diagnosis)


def test_a_wide_time_of_a_trace_is_named_as_damage() -> None:
    """The events are told, and that a number was lost (format: trace_output.c, lat_print_timestamp())."""
    text = b"""\
  replay-294     0.....    366666666666.681361: kvm_entry: vcpu 0 rip 0x10100
  replay-294     0d..1.    366666666666.681389: kvm_exit: reason EXIT_NPF rip 0x10100 info 200000006 6000
  replay-294     0.....    366666666666.681427: kvm_entry: vcpu 0 rip 0x10100
"""
    (failure,) = read(text).failures
    assert failure.symptom is not None
    assert "first_ns" not in failure.symptom.fields
    assert [sentence for sentence in failure.damage if "64 bits" in sentence]
    msgspec.msgpack.encode(failure)
