"""Whether a text can have a collector's wrapping: the quick question and the slow one have one answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.ingest.wrapping import HINT, can_be_wrapped

_BEGINNINGS = (
    "", "RAX=00", " ", "\t", "Nov 22 12:00:00 a b[1]: x", "2026-11-22T", "<6>x", '{"a"', "[ 1.0]", "a=1", "web-1 | x",
    "data: {", "\x1e{", "pod\tcontainer\t2026-11-22", "a\tb\tc", "1700000000.5", "Mon ", "KVM internal error", "x[9",
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["", " ", "\t "]), st.sampled_from(_BEGINNINGS), st.text(max_size=8))))
def test_any_line_is_as_good_as_the_first(lines: list[tuple[str, str, str]]) -> None:
    """``can_be_wrapped`` is true if, and only if, HINT matches one of the lines."""
    text = "\n".join("".join(parts) for parts in lines)
    assert can_be_wrapped(text) == any(HINT.match(line) for line in text.split("\n"))
