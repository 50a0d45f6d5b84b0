"""kvmwhy in a browser: the same answers as here, byte for byte, with nothing sent, whatever is dropped on it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from browser import LOOKS, Visit, every, overflow, packaged, served, violations, visit
from kvmwhy.ingest.multi_search import one_by_one
from kvmwhy.page import parts
from kvmwhy.page.packages import PACKAGES, Package, PackageError
from kvmwhy.page.parts import asset
from kvmwhy.page.write import write
from kvmwhy.probe.encodings import BITNESS, all_forms
from kvmwhy.report import report
from needs import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
CORPUS = Path(os.environ.get("KVMWHY_CORPUS", ROOT.parent / "shared" / "corpus"))
GOOD = ROOT / "examples" / "avx-move-on-mmio.log"
OURS = sorted(
    path for path in FIXTURES.rglob("*") if path.is_file() and path.suffix in {".log", ".txt", ".page", ".dat"}
)
PUBLIC = sorted(CORPUS.glob("*/evidence.txt")) if CORPUS.is_dir() else []
EVERY = os.environ.get("KVMWHY_EVERY_REPORT") == "1"

# Every answer of the worker is kept where a test can take it, as a person would by "Save as JSON".
KEEP = """
const made = window.Worker;
window.answers = [];
window.Worker = class extends made {
  constructor(...all) {
    super(...all);
    this.addEventListener('message', ({ data }) => { if (data.kind === 'answer') window.answers.push(data); });
  }
};
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in PACKAGES:
        packaged(package)
    folder = tmp_path_factory.mktemp("site")
    write(str(folder))
    return folder


@contextmanager
def opened(browser: Browser, url: str, **how: Any) -> Iterator[Visit]:
    """The page, when it is ready for a log."""
    with visit(browser, url, init=KEEP, **how) as seen:
        seen.page.wait_for_selector("body[data-state]")
        assert seen.page.get_attribute("body", "data-state") == "ready", seen.page.inner_text("body")
        yield seen


@pytest.fixture(scope="module")
def page(chromium: Browser, site: Path) -> Iterator[Visit]:
    """One that is open for many reports, as a person's would be."""
    with served(site) as url, opened(chromium, url) as seen:
        yield seen


@pytest.fixture(scope="module")
def blank(chromium: Browser) -> Iterator[Page]:
    """An empty page that has the worker's search."""
    with visit(chromium, "about:blank") as seen:
        seen.page.evaluate(asset("search.js") + "window.Search = Search; 0")
        yield seen.page


def explained(seen: Visit, file: Any) -> dict[str, Any]:
    """What the page shows of a file."""
    seen.page.evaluate("window.answers.length = 0; document.body.dataset.state = 'asked'")
    seen.page.set_input_files("#file", file)  # a path, or a name and content
    seen.page.wait_for_selector("body[data-state=done], body[data-state=failed]")
    assert seen.page.get_attribute("body", "data-state") == "done", seen.page.inner_text("body")
    answer: dict[str, Any] = seen.page.evaluate("window.answers[0]")
    return answer


def same_as_here(seen: Visit, paths: list[Path]) -> int:
    """JSON and remarks are those of CPython, to the byte; how many had a failure."""
    several = 0
    for path in paths:
        here = report([path.read_bytes()], path.name, made=datetime.now(UTC))
        there = explained(seen, path)
        assert there["json"].encode() == b"".join(line + b"\n" for line in here.json), path
        assert tuple(there["remarks"]) == here.remarks, path
        several += bool(here.json)
        title = seen.page.title()
        assert title == "kvmwhy: why KVM gave up on a guest"
    return several


def test_our_reports_have_the_answer_of_cpython(page: Visit) -> None:
    """Some fixtures of all kinds: logs, traces, pages of kvm_run; all of them with KVMWHY_EVERY_REPORT=1."""
    wanted = OURS if EVERY else every(OURS, 16)
    assert same_as_here(page, wanted) >= len(wanted) * 2 // 3
    assert page.errors == []


def test_public_reports_have_the_answer_of_cpython(page: Visit) -> None:
    """Some that other people posted; all of them with KVMWHY_EVERY_REPORT=1."""
    if not PUBLIC:
        pytest.skip(f"no public reports in {CORPUS}: set KVMWHY_CORPUS")
    wanted = PUBLIC if EVERY else every(PUBLIC, 16)
    assert same_as_here(page, wanted) >= len(wanted) * 2 // 3
    assert page.errors == []


@given(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=8, unique=True), st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_search_finds_what_the_standard_library_finds(blank: Page, texts: list[bytes], data: st.DataObject) -> None:
    """Every occurrence, in one order, for any texts: also those inside of others, and those that overlap."""
    text = b"".join(data.draw(st.lists(st.sampled_from([*texts, b"a", b"\x00"]), max_size=12)))
    found = blank.evaluate(
        "([texts, text]) => Array.from(new Search(texts.map((t) => Uint8Array.from(t))).find(Uint8Array.from(text)))",
        [[list(each) for each in texts], list(text)],
    )
    assert list(zip(found[::3], found[1::3], found[2::3], strict=True)) == one_by_one(texts)(text)


HOSTILE = {
    "markup": b"<script>document.title='owned'</script>"
    b"<img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">\n",
    "ends of elements": b"</pre></title></style></svg></main></body></html><iframe src=http://127.0.0.1:9/></iframe>\n",
    "terminal": b"\x1b]0;owned\x07\x1b[2J\x9b31m\x1bP+q\x1b\\\n",
    "right to left": "\u202edenwo\u2066\u2069\u200b\n".encode(),
    "long line": b"A" * (1 << 20) + b"<b onmouseover=document.title='owned'>\n",
    "bytes": bytes(range(256)) * 16,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_log_executes_nothing(page: Visit, text: bytes) -> None:
    """Before, in and behind a failure: the title stays, no element comes of it, nothing is asked for."""
    log = text + GOOD.read_bytes().replace(b"\n", b"\n" + text, 3) + text
    asked = len(page.asked)
    explained(page, {"name": "<img src=x onerror=alert(1)>.log", "mimeType": "text/plain", "buffer": log})
    assert page.page.title() == "kvmwhy: why KVM gave up on a guest"
    assert page.page.locator("#answer :is(img, iframe, script, style, b[onmouseover], object)").count() == 0
    assert page.asked[asked:] == []
    assert page.errors == []


def test_nothing_can_leave(page: Visit, site: Path) -> None:
    """The page asked for its own files alone; its policy refuses any other connection, in its worker as well."""
    here = page.page.url
    assert page.outside(here) == []
    attempt = "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.name)"
    assert page.page.evaluate(attempt) == "TypeError"
    worker = page.page.workers[0]
    refused = worker.evaluate(
        """() => new Promise((told) => {
             self.addEventListener('securitypolicyviolation', (event) => told(event.effectiveDirective));
             try { new WebSocket('ws://127.0.0.1:9/'); } catch (error) { told(error.name); }
           })"""
    )
    assert refused in {"connect-src", "SecurityError"}
    page.errors.clear()
    assert {path.name for path in site.iterdir()} == {"index.html", "files"}


def test_a_large_log_ends(page: Visit, tmp_path: Path) -> None:
    """100 MB of other lines around a failure: progress is shown, and the answer is that of the failure alone."""
    noise = b"Oct 12 10:11:12 host app[1]: nothing to be seen here, and nothing of it is ever read again by anybody\n"
    half = noise * (50_000_000 // len(noise))
    log = half + GOOD.read_bytes() + half
    page.page.evaluate(
        """() => {
             const status = document.getElementById('status');
             window.said = [];
             new MutationObserver(() => window.said.push(status.textContent)).observe(status, { childList: true });
           }"""
    )
    path = tmp_path / "large.log"
    path.write_bytes(log)
    answer = explained(page, path)
    assert b"vmovdqu" in answer["json"].encode()
    assert len({text for text in page.page.evaluate("window.said") if text.startswith("Reading, ")}) > 10


def test_reading_can_be_stopped(chromium: Browser, site: Path, tmp_path: Path) -> None:
    """Stop ends the work at once, and the next log is explained."""
    path = tmp_path / "large.log"
    path.write_bytes((GOOD.read_bytes() + b"\n" * 2000) * 4000)
    with served(site) as url, opened(chromium, url) as seen:
        seen.page.set_input_files("#file", path)
        seen.page.wait_for_selector("#stop:not([hidden])")
        seen.page.click("#stop")
        seen.page.wait_for_selector("body[data-state=ready]")
        assert "vmovdqu" in explained(seen, GOOD)["json"]


def test_a_failure_of_python_is_said_and_it_starts_again(chromium: Browser, site: Path) -> None:
    """Whatever ends an explanation, as full memory does: what Python said is shown, and the next log is explained."""
    with served(site) as url, opened(chromium, url) as seen:
        seen.page.workers[0].evaluate("explain = () => { throw new Error('MemoryError: made to fail'); }; 0")
        seen.page.evaluate("document.body.dataset.state = 'asked'")
        seen.page.set_input_files("#file", GOOD)
        seen.page.wait_for_selector("#answer pre")
        assert seen.page.inner_text("#answer").startswith("It could not be explained")
        assert "made to fail" in seen.page.inner_text("#answer pre")
        seen.page.wait_for_selector("body[data-state=ready]")
        assert "made to fail" in seen.page.inner_text("#answer pre")
        assert "vmovdqu" in explained(seen, {"name": "b", "mimeType": "", "buffer": GOOD.read_bytes()})["json"]


def test_the_last_log_is_the_one_that_is_explained(chromium: Browser, site: Path, tmp_path: Path) -> None:
    """One that is given while another is read: the other is ended for it, and nothing of it is shown."""
    path = tmp_path / "large.log"
    path.write_bytes((GOOD.read_bytes() + b"\n" * 2000) * 4000)
    with served(site) as url, opened(chromium, url) as seen:
        seen.page.set_input_files("#file", path)
        seen.page.wait_for_selector("body[data-state=busy]")
        assert json.loads(explained(seen, GOOD)["json"])["source"]["path"] == GOOD.name
        assert seen.page.evaluate("window.answers.length") == 1
        assert seen.page.inner_text("#status").startswith("1 failure")


def zstd(data: bytes) -> bytes:
    if shutil.which("zstd") is None:
        missing("browser", "no zstd to pack with")
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True, check=True).stdout


def test_an_archive_is_explained(page: Visit, tmp_path: Path) -> None:
    """What needs decompressors of Python: a tar, as sosreport makes it, by gzip, bzip2, xz and zstd."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(GOOD, "var/log/guest.log")
    data = packed.getvalue()
    for ending, compressed in {
        "gz": gzip.compress(data),
        "bz2": bz2.compress(data),
        "xz": lzma.compress(data),
        "zst": zstd(data),
    }.items():
        path = tmp_path / f"logs.tar.{ending}"
        path.write_bytes(compressed)
        assert same_as_here(page, [path]) == 1


def test_nothing_found_is_said(page: Visit) -> None:
    """A log without a failure."""
    answer = explained(page, {"name": "a.log", "mimeType": "text/plain", "buffer": b"all is well\n"})
    assert (answer["page"], answer["json"]) == ("", "")
    assert page.page.inner_text("#status").startswith("No KVM failure found in it")


def test_a_pasted_log_and_the_keyboard(chromium: Browser, site: Path) -> None:
    """With the keyboard alone: the field, the button, then the answer has the focus; the page can be saved."""
    with served(site) as url, opened(chromium, url) as seen:
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.insert_text(GOOD.read_text())
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_selector("body[data-state=done]")
        assert seen.page.evaluate("document.activeElement.id") == "answer"
        with seen.page.expect_download() as saved:
            seen.page.click("text=Save the page")
        text = Path(saved.value.path()).read_text()
        assert "default-src 'none'" in text
        assert "vmovdqu" in text


@pytest.mark.parametrize("answered", [False, True])
def test_axe_finds_nothing(page: Visit, answered: bool) -> None:
    """With an answer on it and without, in every look, and nothing is wider than the window."""
    page.page.evaluate("document.getElementById('answer').replaceChildren()")
    if answered:
        explained(page, GOOD)
    for scheme, width in LOOKS:
        page.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.page.set_viewport_size({"width": width, "height": 900})
        assert violations(page.page) == [], (scheme, width)
        assert overflow(page.page) <= 0
    assert page.errors == []


def test_one_file_without_a_server(chromium: Browser, tmp_path: Path, site: Path) -> None:
    """Opened from the disk, it asks for nothing at all."""
    path = tmp_path / "kvmwhy.html"
    write(str(path))
    with opened(chromium, path.as_uri()) as seen:
        assert same_as_here(seen, [GOOD]) == 1
        assert seen.outside(path.as_uri()) == []
        assert "connect-src" not in path.read_text()[:4000]
    with visit(chromium, (site / "index.html").as_uri()) as seen:
        seen.page.wait_for_selector("body[data-state=broken]")
        assert "python3 -m http.server" in seen.page.inner_text("#status")


def test_an_archive_of_the_folder_is_the_folder(tmp_path: Path, site: Path) -> None:
    """The same files, byte for byte, however often the page is made of one source."""
    path = tmp_path / "kvmwhy.zip"
    write(str(path))
    with zipfile.ZipFile(BytesIO(path.read_bytes())) as archive:
        archive.extractall(tmp_path)  # noqa: S202 -- our own
    made = {file.relative_to(site): file.read_bytes() for file in site.rglob("*") if file.is_file()}
    assert {name: (tmp_path / "kvmwhy" / name).read_bytes() for name in made} == made


def test_a_newer_page_replaces_an_older(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The document comes last, so that it never names what is not there; parts of the older go, other files stay."""
    folder = tmp_path / "site"
    shutil.copytree(site, folder)
    old, other = folder / "files" / "python.wasm-0123456789ab.bin", folder / "files" / "notes.bin"
    for path in (old, other):
        path.write_bytes(b"x")
    written, replace = [], os.replace

    def noted(draft: str, path: str) -> None:
        written.append(Path(path).name)
        assert old.exists()
        replace(draft, path)

    monkeypatch.setattr(os, "replace", noted)
    write(str(folder))
    assert written[-1] == "index.html"
    assert len(written) == 7
    other.unlink()
    assert {path.name for path in folder.rglob("*")} == {path.name for path in site.rglob("*")}


def test_a_package_without_its_file_is_refused(tmp_path: Path) -> None:
    """Another edition of a package, which lacks what the page is made of."""
    with tarfile.open(tmp_path / "a-1.tgz", "w:gz") as archive:
        archive.add(GOOD, "package/readme")
    digest = hashlib.sha256((tmp_path / "a-1.tgz").read_bytes()).hexdigest()
    package = Package("npm", "a", "1", "a-1.tgz", "https://kvmwhy.invalid/", digest)
    with pytest.raises(PackageError, match=r"a-1\.tgz has no wasm"):
        parts._npm(package, str(tmp_path), ("wasm",))


IN_WORKER = """([source, text]) => {
  const modules = explain.__globals__.get('sys').modules;
  const space = explain.__globals__.copy();
  space.set('text', text);
  return modules.get('_pyodide._base').eval_code(source, space);
}"""
DECODE = """
import hashlib, json, msgspec
from kvmwhy.arch.x86.decoder import decoder
digests = []
for mode, code, syntax in json.loads(text):
    instruction = decoder().decode(bytes.fromhex(code), bitness=mode, address=0x1000, syntax=syntax)
    digests.append(hashlib.sha256(msgspec.json.encode(instruction)).hexdigest()[:16])
json.dumps(digests)
"""


def test_the_decoder_is_the_one_of_the_wheel(page: Visit) -> None:
    """Every encoding of the atlas in every mode, and random bytes: text, operands, sizes and accesses are the same."""
    pytest.importorskip("iced_x86", reason="iced-x86 is not installed: there is nothing to compare with")
    draw = random.Random(7)  # noqa: S311 -- nothing secret
    asked = [(BITNESS[form.mode], form.code.hex(), "intel") for form in all_forms()][:: 1 if EVERY else 23]
    asked += [(mode, draw.randbytes(15).hex(), "att") for mode in (16, 32, 64) for _ in range(200)]
    here: dict[str, Any] = {"text": json.dumps(asked)}
    exec(DECODE, here)  # noqa: S102 -- the same lines here and there
    there = json.loads(page.page.workers[0].evaluate(IN_WORKER, [DECODE, here["text"]]))
    assert [case for case, a, b in zip(asked, here["digests"], there, strict=True) if a != b] == []
