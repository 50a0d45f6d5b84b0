"""The quick look at a short text passes over nothing that a reader reads, however it was posted."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kvmwhy.readers import glance, read
from kvmwhy.readers.glance import may_tell
from mangles import MANGLES
from pipeline.texts import NO_CORPUS, own, public


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when many texts have come."""
    monkeypatch.setattr(glance, "_FEW", 0)


def passed_over(texts: dict[str, bytes], ways: int) -> Iterator[str]:
    """Texts, and lines of them, mangled in some ways, that have a failure and are not worth a look."""
    for name, data in texts.items():
        text = data.decode("utf-8", "replace")[: 16 << 10]
        pick = random.Random(name)  # noqa: S311 -- the same each time
        lines = text.splitlines(keepends=True)
        first = pick.randrange(max(1, len(lines)))
        for piece in (text, "".join(lines[first : first + 1]), "".join(lines[first : first + 3])):
            for way in pick.sample(sorted(MANGLES), ways):
                mangled = MANGLES[way](piece)
                if not may_tell(mangled) and read(mangled).failures:
                    yield f"{name}, {way}: {mangled[:200]!r}"


def test_nothing_of_a_fixture_is_passed_over() -> None:
    """Whole and by its lines, in eight ways each."""
    assert list(passed_over(own(), 8)) == []


@pytest.mark.skipif(not public(), reason=NO_CORPUS)
def test_nothing_of_public_reports_is_passed_over() -> None:
    """Whole and by its lines, in three ways each."""
    assert list(passed_over(public(), 3)) == []


@pytest.mark.parametrize(
    "line",
    [
        "Nov 22 01:02:12 host01 qemu-system-x86_64[12345]: info: block job of drive-virtio-disk0 at byte 0000012345",
        "2026-01-02T03:04:05Z some daemon: all is well, request served",
        "Jan  2 03:04:05 web sshd[811]: Failed password for root from 192.0.2.7 port 4242 ssh2",
    ],
)
def test_ordinary_lines_are_passed_over(line: str) -> None:
    """A look is enough."""
    assert not may_tell(f"{line}\n".encode() * 6)


def test_the_first_texts_are_read_without_a_search() -> None:
    """One log is explained without what finds anchors in many."""
    code = (
        "import sys\nfrom kvmwhy.pipeline import records\nlist(records([b'all is well\\n']))\n"
        "print('ahocorasick_rs' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
