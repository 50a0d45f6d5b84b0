"""Whether a text can have a collector's wrapping: the quick question and the slow one have one answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.ingest import marks
from kvmwhy.ingest.multi_search import present
from kvmwhy.ingest.wrapping import HINT, can_be_wrapped
from kvmwhy.readers import OF_TEXT, readers_of

_BEGINNINGS = (
    "", "RAX=00", " ", "\t", "Nov 22 12:00:00 a b[1]: x", "2026-11-22T", "<6>x", '{"a"', "[ 1.0]", "a=1", "web-1 | x",
    "data: {", "\x1e{", "pod\tcontainer\t2026-11-22", "a\tb\tc", "1700000000.5", "Mon ", "KVM internal error", "x[9",
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["", " ", "\t "]), st.sampled_from(_BEGINNINGS), st.text(max_size=8))))
def test_any_line_is_as_good_as_the_first(lines: list[tuple[str, str, str]]) -> None:
    """``can_be_wrapped`` is true if, and only if, HINT matches one of the lines."""
    text = "\n".join("".join(parts) for parts in lines)
    assert can_be_wrapped(text) == any(HINT.match(line) for line in text.split("\n"))


@given(st.lists(st.one_of(st.sampled_from([m for f in OF_TEXT for m in f.marks]), st.text(max_size=5)), max_size=6))
def test_a_reader_is_asked_for_each_of_its_marks(parts: list[str]) -> None:
    """Those readers come, in their order, that have no marks or one that is in the text, glued to others or not."""
    text = "".join(parts)
    wanted = [format_ for format_ in OF_TEXT if not format_.marks or any(mark in text for mark in format_.marks)]
    assert readers_of(text) == wanted


def test_marks_inside_of_others_are_present() -> None:
    """Overlapping and nested strings are all found, as ``in`` finds them."""
    anchors = (b"ab", b"abc", b"bcd", b"d", b"xyz", b"KVM_RUN")
    assert present(anchors)(b"..abcd..") == {0, 1, 2, 3}
    assert present(anchors)(b"") == set()
    assert present([mark.encode() for mark in marks.TRACE])(b"kvm_emulate_insn: 0:1") == {0}
