"""Anchors are conservative: where a reader can read something, one of its own is there, and the search finds it."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, reports
from kvmwhy.ingest.anchor_search import NEAR, REACH, AnchorSearch, needles
from kvmwhy.ingest.anchors import Anchor, holds
from kvmwhy.ingest.demux import streams
from kvmwhy.ingest.encoding import ESCAPED, Unescaped
from kvmwhy.ingest.first_look import FirstLook, words_of
from kvmwhy.ingest.multi_search import finder, one_by_one
from kvmwhy.pipeline import records
from kvmwhy.readers import read
from kvmwhy.readers.registry import READERS, readers_of, search
from pipeline.texts import NO_CORPUS, own, public

ANCHORS = search().anchors


def fragments(text: bytes, times: int) -> Iterator[bytes]:
    """The text, and some windows of its lines, as people cut out what they post."""
    yield text
    lines = text.splitlines(keepends=True)
    pick = random.Random(len(lines))  # noqa: S311 -- the same each time
    for _ in range(times):
        start, size = pick.randrange(max(1, len(lines))), pick.choice((1, 3, 5, 8, 13, 20))
        yield b"".join(lines[start : start + size])


def unseen(text: bytes) -> list[str]:
    """Readers that find something in a text without any of their anchors in it."""
    out: list[str] = []
    for stream in streams(text):
        plain = stream.text.text
        others = [reader for reader in READERS if reader not in readers_of(plain)]
        pieces = ((each.name, each.load().read(stream.text, path=None, first_line=1)) for each in others)
        out += (f"{name}: {plain[:300]!r}" for name, piece in pieces if piece.failures)
    if read(text).failures and not search().hits(Unescaped(text).data):
        out.append(f"no hit: {text[:300]!r}")
    return out


@pytest.mark.parametrize("name", own())
def test_what_can_be_read_of_a_fixture_has_an_anchor(name: str) -> None:
    """Whole, and cut to some lines: every reader that reads a failure of it is asked, and the search has a hit."""
    text = own()[name][: 16 << 10]
    assert [said for piece in fragments(text, 3) for said in unseen(piece)] == []


@pytest.mark.skipif(not public(), reason=NO_CORPUS)
def test_what_can_be_read_of_public_reports_has_an_anchor() -> None:
    """The same for every fifth of them."""
    assert [
        said
        for text in list(public().values())[::5]
        for piece in fragments(text[: 16 << 10], 1)
        for said in unseen(piece)
    ] == []


@pytest.mark.parametrize("name", [name for name in own() if "/kernel-log/" in name])
def test_any_few_lines_of_a_kernels_dump_that_can_be_read_have_an_anchor(name: str) -> None:
    """Every window of two and three lines: a dump is posted in pieces, and each row of it may be the only one."""
    lines = own()[name].splitlines(keepends=True)
    windows = (b"".join(lines[at : at + size]) for size in (2, 3) for at in range(len(lines)))
    assert [reader for window in dict.fromkeys(windows) for reader in unseen(window)] == []


@settings(max_examples=20, deadline=None)
@given(reports())
def test_whatever_qemu_prints_has_an_anchor(report: Printed) -> None:
    """Any dump with any banner."""
    assert unseen(report.text.encode()) == []


@pytest.mark.parametrize("tear", ["\n", "\r\n", "\n> ", " \n\t"])
def test_the_search_finds_every_anchor(tear: str) -> None:
    """Wrapped at any of its blanks, too, and with one of its words near it."""
    for anchor in ANCHORS:
        word = f" {anchor.near[0]}" if anchor.near else ""
        places = [
            n
            for n, c in enumerate(anchor.text)
            if c == " " and n and anchor.text[n + 1 : n + 2].isalnum() and "  " not in anchor.text
        ]
        for at in [None, *places]:
            text = anchor.text if at is None else anchor.text[:at] + tear + anchor.text[at + 1 :]
            data = f"filler\n{text}{word}\nfiller".encode()
            assert search().hits(data), data
            assert holds(anchor, data.decode()) or "> " in tear, data


GAPS = (
    " ", "  ", "\n", "\r\n", "\n\n", "\n> ", "\n>> | ", " \n\t", "\t", "=\n", " =\r\n", "\\n", "\\r\\n",
    "<br>\n", "&nbsp;",
)  # fmt: skip
GAP = r"(?:[\s>|*=]|\\[nrt]|<[^<>\n]{0,60}>|&[a-z]{2,6};){1,24}"


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ANCHORS),
    st.lists(st.sampled_from(GAPS), min_size=12, max_size=12),
    st.lists(st.sampled_from([*(w for a in ANCHORS for w in a.text.split()), "lorem", "\n"]), max_size=8),
)
def test_an_anchor_is_found_torn_at_all_its_blanks(anchor: Anchor, gaps: list[str], around: list[str]) -> None:
    """However it was wrapped, quoted or escaped, among words of others; and no hit is where its anchor is not."""
    words = anchor.text.split() if "  " not in anchor.text.strip() else [anchor.text]
    text = "".join(word + gap for word, gap in zip(words, gaps, strict=False)).removesuffix(gaps[len(words) - 1])
    text = anchor.text if len(words) == 1 else text + anchor.text[len(anchor.text.rstrip()) :]
    before = " ".join(around) + "\n"
    data = f"{before}{text}\n{' '.join(around)} {anchor.near[0] if anchor.near else ''}\n"
    if not any(mark in data for mark in ESCAPED):
        hits = search().hits(data.encode())
        assert any(hit.anchor.text == anchor.text and hit.at == len(before) for hit in hits)
        for hit in hits:
            torn = GAP.join(map(re.escape, hit.anchor.text.split()))
            assert data.startswith(hit.anchor.text, hit.at) or re.compile(torn).match(data, hit.at)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(ANCHORS),
    st.lists(st.sampled_from(GAPS), min_size=12, max_size=12),
    st.sets(st.sampled_from(sorted({w[:8] for a in ANCHORS for w in a.text.split()})), max_size=400),
    st.lists(st.sampled_from([*(a.text for a in ANCHORS), "lorem ipsum dolor sit amet " * 9, "\n"]), max_size=20),
)
def test_where_an_anchor_is_the_first_look_sees_it(
    anchor: Anchor, gaps: list[str], ordinary: set[str], around: list[str]
) -> None:
    """Torn or not, whatever words are ordinary: the hits in the parts that it names are those of all."""
    pytest.importorskip("hyperscan")
    words = anchor.text.split() if "  " not in anchor.text.strip() else [anchor.text]
    torn = "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    data = "\n".join((*around, anchor.text, *around[::2], torn, *around[::3], *anchor.near[:1])).encode()
    texts = words_of(ANCHORS, ordinary)
    assert any(text.encode() in data for text in texts)
    look = FirstLook(search())
    for _ in range(3):
        assert search().hits(data, spans=look.spans(data)) == search().hits(data)


def test_the_first_look_learns_what_is_ordinary() -> None:
    """Words that a log has in every line are looked for no more, and others are in their stead."""
    pytest.importorskip("hyperscan")
    look = FirstLook(search())
    data = b"registers of the host were initialized: error, kernel command failed, vcpu unknown\n" * 100
    for _ in range(40):
        look.spans(data)
    assert look.spans(data) == []
    line = b"KVM internal error. Suberror: 1\n"
    ((start, end),) = look.spans(data + line + data)
    assert start <= len(data) < len(data) + len(line) <= end


def test_a_word_far_away_is_not_near() -> None:
    """An anchor with words is none without them; how far they may be is less than what is looked at."""
    conditional = [anchor for anchor in ANCHORS if anchor.near and anchor.text not in anchor.near]
    assert conditional
    for anchor in conditional[::9]:
        far = "x" * (NEAR + 2 * REACH + 2)
        assert not AnchorSearch([anchor]).hits(f"{anchor.text}{far} {anchor.near[0]}".encode())
    assert all(2 * anchor.within <= NEAR for anchor in conditional)


def test_every_anchor_has_a_needle_that_is_in_it() -> None:
    """What is searched for in its stead is a part of it, but for the line ends of those that are torn."""
    for anchor in ANCHORS:
        assert needles(anchor.text)
        assert all(needle.text.rstrip(" \\\t\r\n<&=") in anchor.text for needle in needles(anchor.text))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([*(a.text for a in ANCHORS), "\n", "KVM", "x", " ", "="]), max_size=30))
def test_hits_do_not_depend_on_neighbours(words: list[str]) -> None:
    """Anchors glued to others, and those inside of others, are found where plain search finds one."""
    text = "".join(words)
    wanted = {text.find(anchor.text) for anchor in ANCHORS if not anchor.near and anchor.text in text}
    hits = {hit.at for hit in search().hits(text.encode())}
    assert wanted <= hits
    assert search().any(text.encode()) or not hits


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([*(a.text for a in ANCHORS), "\n", "KVM", "x", " "]), max_size=60))
def test_finders_agree(words: list[str]) -> None:
    """Without ahocorasick_rs the standard library finds the same."""
    data = "".join(words).encode()
    anchors = [anchor.text.encode() for anchor in ANCHORS]
    assert sorted(finder(anchors)(data)) == sorted(one_by_one(anchors)(data))


@pytest.mark.parametrize(
    "line",
    [
        "DEBUG fc_vcpu 0: KVM_RUN returned, exit MmioWrite addr 0xd0000000 len 4",
        "before vcpu run",
        "about to run vcpu 3",
        " qemu-4001 [001] d.... 1000.000013: kvm_emulate_insn: 4f21:66 0f 6f 03 (prot64)",
        "KVM: created a VM with 4 vCPUs",
        'request {"schema":1, "n": 5} served',
        "KVM_CREATE_VM gave fd 12",
    ],
)
def test_what_programs_say_when_all_is_well_is_no_record(line: str) -> None:
    """Lines of logs without a failure that have an anchor's text, again and again."""
    kinds = {record.failure.kind for record in records([f"{line}\n".encode() * 2_000])}
    assert kinds <= {"healthy"}


def test_asking_for_readers_imports_none() -> None:
    """The registry and all declarations, without one reader; and a QEMU log needs no search for large inputs."""
    code = (
        "import sys\nfrom kvmwhy.readers.registry import readers_of, READERS\n"
        "readers_of('KVM internal error. Suberror: 1')\n"
        "print([m for m in sys.modules if any(m == f'kvmwhy.readers.{r.module}' for r in READERS)])\n"
        "from kvmwhy.pipeline import records\nlist(records([b'KVM internal error. Suberror: 1\\n']))\n"
        "unwanted = ('ahocorasick_rs', 'kvmwhy.readers.kernel_log', 'kvmwhy.ingest.segment')\n"
        "print([m for m in unwanted if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", "[]"]


@pytest.mark.parametrize("name", own())
def test_a_short_text_is_asked_for_all_at_once_as_for_each(name: str) -> None:
    """The quick look at a short text names the readers that a look for each anchor names, before and after it pays."""
    for piece in [own()[name][: 32 << 10], *fragments(own()[name][: 16 << 10], 3)]:
        for stream in streams(piece):
            plain = stream.text.text[: 64 << 10]
            wanted = [reader for reader in READERS if any(holds(anchor, plain) for anchor in reader.anchors)]
            assert readers_of(plain) == wanted
