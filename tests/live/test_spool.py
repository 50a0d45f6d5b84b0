"""What a killed watch leaves to the next: all of it, as far as it was written, and nothing that is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.live.errors import CaptureError
from kvmwhy.live.spool import Page, Spool, _left

PLACE = (5, 100)  # an inode, and a size
PAGES = (Page(b"page one" * 512, 1.25, 8.5), Page(b""), Page(bytes(4096), since=2.0))
MARKS = ((7, 1.5), (1 << 40, 0.25))


def written(path: Path) -> bytes:
    spool = Spool(str(path), PLACE)
    spool.begin("field: a")
    for page in PAGES:
        spool.page(page)
    spool.telling(MARKS[:1], PLACE)
    spool.telling(MARKS[1:], (5, 200))
    return path.read_bytes()


def test_what_is_left_is_what_was_taken(tmp_path: Path) -> None:
    """Formats, pages in order, and what was told of them; cut back, only the formats stay, which are nothing left."""
    path = tmp_path / "spool"
    written(path)
    spool = Spool(str(path), (5, 300))
    assert spool.left is not None
    assert (spool.left.formats, spool.left.pages, spool.left.told) == ("field: a", PAGES, frozenset(MARKS))
    spool.begin("field: b")
    spool.page(Page(b"x"))
    spool.clear()
    assert Spool(str(path), PLACE).left is None
    spool.page(Page(b"y"))
    again = Spool(str(path), PLACE).left
    assert again is not None
    assert (again.formats, again.pages, again.told) == ("field: b", (Page(b"y"),), frozenset())
    spool.close(empty=True)
    assert not path.exists()


@pytest.mark.parametrize(
    ("end", "last"),
    [((5, 200), False), ((5, 201), True), ((6, 0), False), ((6, 1), True)],
    ids=["not written", "written", "rotated, not written", "rotated and written"],
)
def test_the_last_mark_holds_if_its_record_is_there(tmp_path: Path, end: tuple[int, int], *, last: bool) -> None:
    """Killed between a mark and its record, the failure is told again; killed behind the record, it is not."""
    left = _left(written(tmp_path / "spool"), end)
    assert left is not None
    assert left.told == (frozenset(MARKS) if last else frozenset(MARKS[:1]))


def test_a_torn_end_is_left_out(tmp_path: Path) -> None:
    """Killed at any byte: the entries before that byte are read, and no other."""
    data = written(tmp_path / "spool")
    seen = set()
    for size in range(len(data)):
        left = _left(data[:size], (5, 1000))
        pages, told = (left.pages, left.told) if left else ((), frozenset())
        assert pages == PAGES[: len(pages)]
        assert told <= frozenset(MARKS)
        assert not told or pages == PAGES
        seen.add((len(pages), len(told)))
    assert seen == {(0, 0), (1, 0), (2, 0), (3, 0), (3, 1)}


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    """What is no spool gives nothing or something, and never an error."""
    left = _left(data, PLACE)
    assert left is None or left.pages


def test_without_room_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: no half page stays, the reason is there, and the watch goes on without."""
    spool = Spool(str(tmp_path / "spool"), PLACE)
    spool.begin("formats")

    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        spool.page(Page(b"x" * 4096))
    assert spool.problem is not None
    assert "no space left" in spool.problem
    spool.page(Page(b"y"))
    spool.telling(MARKS, PLACE)
    spool.clear()
    assert (tmp_path / "spool").read_bytes() == b""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A spool is a file of our own: what a link names is never written."""
    (tmp_path / "spool").symlink_to(tmp_path / "other")
    with pytest.raises(CaptureError):
        Spool(str(tmp_path / "spool"), PLACE)
    assert not (tmp_path / "other").exists()
