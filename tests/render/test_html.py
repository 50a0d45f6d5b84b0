"""The page of failures: what it says, that it is well formed, and that no log makes it do anything."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from browser import LOOKS, Drive, overflow, violations, visit
from kvmwhy.cli.main import kvmwhy
from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.render.html.document import Told, page
from kvmwhy.render.html.failure import Excerpt
from outlines import held, outline

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FIXTURES = Path(__file__).parents[1] / "fixtures"
GOOD = FIXTURES / "lab-svm" / "qemu-6.1" / "long64-vmovdqu" / "qemu.log"
LOGS = [path for path in sorted(FIXTURES.rglob("qemu.log"))[::9] if read(path.read_bytes()).failures]
MADE = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = (
    "<script>document.title='owned'</script>",
    "</pre></title></style></svg><img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">",
    '\'"><iframe src=http://127.0.0.1:9/></iframe> id="f1" href="#f1"',
    "&lt;b&gt;\x00\x07\x1b[2J\x9b31m\u202edlrow\u200b",
)


def page_of(log: bytes, *, times: int = 1) -> str:
    lines = tuple(log.decode("utf-8", "replace").splitlines())
    told = [Told(diagnose(failure), (), Excerpt(1, lines)) for failure in read(log, path="guest.log").failures]
    return page(told * times, made=MADE)


@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.parent.name)
def test_genuine_logs(log: Path) -> None:
    """The answer is the heading, and the log's lines stand below with their numbers."""
    data = log.read_bytes()
    text = page_of(data)
    found = held(text)
    answer = diagnose(read(data).failures[0]).answer
    assert "".join(found.texts).count(answer[:30]) >= 1
    assert "f1-L1" in found.ids


def test_the_policy_allows_what_is_there_and_nothing_else() -> None:
    """The hashes of CSP are those of the style and the script on the page; all else is forbidden."""
    text = page_of(GOOD.read_bytes())
    for kind in ("style", "script"):
        body = re.search(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        assert body
        digest = b64encode(sha256(body[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert "unsafe" not in text


def test_one_number_is_one_wherever_it_stands() -> None:
    """The address of the access is tied: in the words, the operand, the code and the log's own line."""
    text = page_of(GOOD.read_bytes())
    assert text.count('data-n="d0000000"') >= 5
    assert re.search(
        r'id="f1-w5"><th scope="row">data\[5\]</th><td class="c"><span class="n" tabindex="0" data-n="d0000000"', text
    )


def test_several_failures_have_ids_of_their_own() -> None:
    """A list leads to each."""
    found = held(page_of(GOOD.read_bytes(), times=3))
    assert {"f1", "f2", "f3", "f3-w5"} <= found.ids.keys()
    assert found.tags["nav"] == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40)), min_size=1, max_size=6), st.data())
def test_no_log_breaks_the_page(words: list[str], data: st.DataObject) -> None:
    """Markup, quotes and control characters in any line of a log."""
    lines = GOOD.read_text().splitlines()
    for word in words:
        lines.insert(data.draw(st.integers(0, len(lines))), word)
    text = page_of("\n".join(lines).encode("utf-8", "replace"))
    if "<article" in text:
        held(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202e\u200b]", text)


def test_a_browser_runs_nothing_of_the_log(drive: Drive, tmp_path: Path) -> None:
    """A hostile log in Chromium: the title is ours, and no element came out of the text."""
    log = GOOD.read_text() + "".join(f"KVM: {text}\n" for text in HOSTILE)
    path = tmp_path / "page.html"
    path.write_text(page_of(log.encode()))
    shown = drive(path)
    assert "owned</title>" not in shown
    assert outline(shown).tags["img"] == 0


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing(chromium: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    """Of three kinds of failure, one page of several, and nothing is wider than the window."""
    logs = [*LOGS[:: len(LOGS) // 2][:3], GOOD]
    for n, log in enumerate(logs):
        path = tmp_path / f"{n}.html"
        path.write_text(page_of(log.read_bytes(), times=1 + 2 * (log == GOOD)))
        with visit(chromium, path.as_uri(), scheme=scheme, width=width) as seen:
            assert violations(seen.page) == [], log
            assert overflow(seen.page) <= 0, log
            assert seen.errors == []


def test_the_command_writes_the_page_whole(tmp_path: Path) -> None:
    """--html FILE; a folder that is not there is said in one sentence with status 2."""
    target = tmp_path / "page.html"
    made = CliRunner().invoke(kvmwhy, ["explain", "--html", str(target), str(GOOD)])
    assert (made.exit_code, made.output) == (0, "")
    assert "vmovdqu" in target.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    refused = CliRunner().invoke(kvmwhy, ["explain", "--html", str(tmp_path / "no" / "page.html"), str(GOOD)])
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1


def test_the_evidence_is_drawn() -> None:
    """The walk's rungs by the SDM's arithmetic, the strip of kernels, the registers that differ, the words."""
    text = page_of(GOOD.read_bytes())
    assert "<b>PML4E</b> 0x0 of CR3" in text
    assert "<b>PDPTE</b> 0x3 of the table that the PML4E names" in text
    assert "<b>PDE</b> 0x80 of the table" in text
    assert text.count('<ol class="strip">') == 1
    assert "Differ from reset" in text
    assert re.search(r"data\[5\]</th><td[^>]*>.{1,120}</td><td>EXITINFO2 ", text)
    assert re.search(r'<th scope="row" id="f1-r-rbx" class=here>RBX</th>', text)


def test_a_vcpu_at_its_reset_differs_in_nothing() -> None:
    """The firmware's first instruction failed: EDX names the CPU, which is no difference (SDM vol. 3A, 11.1)."""
    log = FIXTURES / "truths-lab" / "vmx-6.1-unrestricted_guest-0" / "endbr-first" / "vmm.log"
    text = page_of(log.read_bytes())
    assert "with reset values: the guest has executed nothing" in text
    assert "Differ from reset" not in text


def test_the_time_before_the_failure() -> None:
    """Of a genuine trace: a stretch for each pair of events, in the guest behind an entry; links lead somewhere."""
    trace = gzip.decompress((FIXTURES / "trace" / "6.1.0-56-cloud-amd64" / "plain.txt.gz").read_bytes())
    found = held(page_of(trace))
    assert found.tags["rect"] > 10
    assert any("in the guest" in words for words in found.texts)
