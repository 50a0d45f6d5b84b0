"""The server: the same answers as the command line, nothing kept but what was asked for, and limits that hold."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from asyncio import _get_running_loop, _set_running_loop  # for whoever makes loops
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

from browser import LOOKS, overflow, violations, visit
from needs import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
GOOD = ROOT / "examples" / "avx-move-on-mmio.log"
SECRET = b"2026-01-02 host-of-nobody qemu[4711]: path=/home/somebody/secret.img\n"
HOSTILE = (
    b"<script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">\n"
    b"</pre></title></style></svg></main></body><iframe src=http://127.0.0.1:9/></iframe>\n"
    b"\x1b]0;owned\x07\x1b[2J\xe2\x80\xaedenwo\n" + b"A" * (1 << 20) + b"\n"
)


HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
# 160 MiB, of which the server reads 64.
CUT_OFF = gzip.compress(GOOD.read_bytes() + b"nothing\n" * (20 << 20), 1)


@pytest.fixture(scope="module", autouse=True)
def web() -> None:
    absent = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if absent:
        missing("web", f"no {' and no '.join(absent)}: the extra web is not installed")


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Served(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def post(self, body: bytes, path: str = "/", **headers: str) -> Reply:
        return self.ask("POST", path, body, **headers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    """The command, until it answers; ended as systemd ends it."""
    port, log = free_port(), folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kvmwhy", "serve", "--port", str(port), *options], stdout=out, stderr=out
        )
    server = Served(port, process, log)
    try:
        for _ in range(600):
            try:
                server.ask("GET", "/healthz")
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in {0, -signal.SIGTERM}, log.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("serve")
    with serving(
        folder, "--keep", str(folder / "kept.sqlite"), "--body", "4", "--unpacked", "64", "--seconds", "60"
    ) as served:
        yield served


def explained(path: Path) -> list[Any]:
    command = [sys.executable, "-m", "kvmwhy", "explain", "--json", path.name]
    out = subprocess.run(command, capture_output=True, check=False, cwd=path.parent).stdout
    return [json.loads(line) for line in out.splitlines()]


def test_json_is_that_of_the_command(server: Served) -> None:
    """For what asks for anything, as curl does; one that is packed as well."""
    wanted = explained(GOOD)
    plain = server.post(GOOD.read_bytes(), f"/?name={GOOD.name}", Accept="*/*")
    assert (plain.status, plain.headers["content-type"]) == (200, "application/json")
    assert plain.json() == {"failures": wanted, "remarks": [], "permalink": None}
    packed = server.post(gzip.compress(GOOD.read_bytes()), f"/?name={GOOD.name}", Accept="application/json")
    assert packed.json()["failures"] == wanted


def test_a_browser_gets_the_page(server: Served) -> None:
    """By Accept; its policy comes as a header, and nothing sets a cookie or may be stored."""
    reply = server.post(GOOD.read_bytes(), Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert b"<article" in reply.body
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
    assert "set-cookie" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_a_link_shows_the_redacted_record(server: Served) -> None:
    """The answer is the same; what was private is neither on the page nor in the file."""
    log = SECRET + GOOD.read_bytes() + SECRET
    kept = server.post(log, "/?keep=1&name=secret-name.log")
    assert kept.status == 201
    link = kept.json()["permalink"]
    assert re.fullmatch(r"/r/[A-Za-z0-9_-]{22}", link)
    again = server.ask("GET", link)
    assert again.json()["failures"][0]["answer"] == kept.json()["failures"][0]["answer"]
    page = server.ask("GET", link, Accept="text/html")
    database = b"".join(path.read_bytes() for path in server.log.parent.glob("kept.sqlite*"))
    for text in (again.body, page.body, database, server.log.read_bytes()):
        assert not re.search(rb"secret|somebody|host-of-nobody|4711", text)
    assert server.ask("GET", "/r/" + "A" * 22).status == 404
    assert link.encode() not in server.log.read_bytes()
    moved = server.post(log, "/?keep=1", Accept="text/html")
    assert (moved.status, moved.headers["location"][:3]) == (303, "/r/")


def test_records_are_forgotten(tmp_path: Path) -> None:
    """When their days are over, and the oldest when there are too many, by number or bytes."""
    from kvmwhy.serve.store import Store

    path = str(tmp_path / "kept.sqlite")
    store = Store(path, days=3, most=2, size=1000)
    tokens = [store.keep(b"record %d" % n) for n in range(3)]
    assert [store.find(token) for token in tokens] == [None, (b"record 1", 0), (b"record 2", 0)]
    with sqlite3.connect(path) as database:
        database.execute("update records set made = made - 4 * 86400 where token = ?", (tokens[1],))
    database.close()
    assert store.find(tokens[1]) is None
    store.forget()
    assert store.count() == 1
    large = store.keep(b"x" * 995)  # beside which the one of 8 bytes has no room
    assert store.find(tokens[2]) is None
    assert store.find(large) == (b"x" * 995, 0)
    store.close()
    assert os.stat(path).st_mode & 0o077 == 0


def test_sizes_are_limited(server: Served) -> None:
    """A body above the limit is refused, stated or not; an archive that unpacks without end is read to its limit."""
    assert server.post(b"x" * (5 << 20)).status == 413
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    chunks = (b"x" * 65536 for _ in range(200))
    try:
        connection.request("POST", "/", chunks, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before all of it was sent
    finally:
        connection.close()
    bomb = server.post(gzip.compress(b"nothing " * (20 << 20), 1))
    assert (bomb.status, bomb.json()["failures"]) == (200, [])
    assert "MiB" in bomb.json()["remarks"][0]
    assert server.post(b"").status == 400
    assert server.ask("GET", "/healthz").body == b"ok\n"


def test_a_request_has_its_time(tmp_path: Path) -> None:
    """What needs longer is ended and said; the server answers the next."""
    with serving(tmp_path, "--seconds", "1", "--body", "64") as server:
        slow = b"".join(GOOD.read_bytes().replace(b"8086", b"%04x" % n) + b"\n" * 900 for n in range(8000))
        reply = server.post(slow)
        assert reply.status == 422, reply.body[:300]
        assert "limits" in reply.json()["error"]
        assert server.ask("GET", "/healthz").status == 200
        assert b"kvmwhy_serve_gave_up_total 1" in server.ask("GET", "/metrics").body


def test_other_sites_are_refused(server: Served) -> None:
    """A page of another site, and another name for this address, as DNS rebinding has it."""
    log = GOOD.read_bytes()
    assert server.post(log, Origin="http://evil.example").status == 403
    assert server.post(log, Sec_Fetch_Site="cross-site").status == 403
    assert server.post(log, Host=f"evil.example:{server.port}").status == 421
    assert server.post(log, Origin=f"http://127.0.0.1:{server.port}", Sec_Fetch_Site="same-origin").status == 200
    assert server.ask("PUT", "/").status == 405


@pytest.mark.parametrize("quality", ["²", "1.2.3", "", "nan", "inf", "-1", "1e9", "0x1", ".", "1" * 400, "0.5;q=²"])
def test_a_quality_that_is_none_is_no_fault(server: Served, quality: str) -> None:
    """RFC 9110 has digits of ASCII, three after the point; whatever else comes, there is an answer."""
    for accept in (f"text/html;q={quality}", f"text/html, application/json;q={quality}"):
        assert server.post(GOOD.read_bytes(), Accept=accept).status == 200


def test_every_answer_has_the_headers(server: Served) -> None:
    """Also those that no route gives: an unknown path, another method, another name; and each is counted."""
    cut_short = server.post(b"")
    for status, reply in {
        404: server.ask("GET", "/nothing/here"),
        405: server.ask("PUT", "/"),
        421: server.ask("GET", "/nothing/here", Host="evil.example"),
        400: cut_short,
    }.items():
        assert reply.status == status
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.json()["error"]
    page = server.ask("GET", "/nothing/here", Accept=HTML)
    assert (page.status, page.headers["content-type"][:9]) == (404, "text/html")
    text = server.ask("GET", "/metrics").body.decode()
    for status in (404, 421):
        assert f'kvmwhy_serve_requests_total{{route="other",status="{status}"}}' in text


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """The kernel refuses the server's writes: 503, counted; a log that has room is answered. So is a broken store."""
    kept = tmp_path / "kept.sqlite"
    with serving(tmp_path, "--keep", str(kept), "--body", "8") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        refused = server.post(GOOD.read_bytes() + b"x" * (4 << 20))
        assert refused.status == 503
        assert "unable" in refused.json()["error"]
        assert refused.headers["retry-after"]
        assert refused.headers["content-security-policy"].startswith("default-src 'none'")
        assert server.post(GOOD.read_bytes()).status == 200
        text = server.ask("GET", "/metrics").body
        assert b"kvmwhy_serve_unable_total 1" in text
        assert b'kvmwhy_serve_requests_total{route="explain",status="503"} 1' in text
        with sqlite3.connect(kept) as database:
            database.execute("drop table records")
        database.close()
        assert server.post(GOOD.read_bytes(), "/?keep=1").status == 503
        assert server.ask("GET", "/r/" + "A" * 22, Accept=HTML).status == 503
        assert server.post(GOOD.read_bytes()).status == 200


def test_what_was_left_out_is_on_the_page(server: Served) -> None:
    """A remark of the command is on the page as well; behind a link it is said that there was one."""
    page = server.post(CUT_OFF, Accept=HTML)
    assert b"<article" in page.body
    assert b"more than 64 MiB" in page.body
    moved = server.post(CUT_OFF, "/?keep=1", Accept=HTML)
    link = moved.headers["location"]
    assert b"could not be read of the log: 1." in server.ask("GET", link, Accept=HTML).body
    assert len(server.ask("GET", link).json()["remarks"]) == 1
    whole = server.post(GOOD.read_bytes(), "/?keep=1")
    assert server.ask("GET", whole.json()["permalink"]).json()["remarks"] == []


def test_a_pasted_log_loses_the_name_of_its_field(server: Served) -> None:
    """That of the form, and nothing of a log that is sent as it is."""
    log = b"log=the first line\n" + GOOD.read_bytes()
    pasted = server.post(log, "/?form=1", Accept=HTML, Content_Type="text/plain")
    assert b"the first line" in pasted.body
    assert b"log=the first line" not in pasted.body
    sent = server.post(log, Accept=HTML, Content_Type="text/plain; charset=utf-8")
    assert b"log=the first line" in sent.body


def in_a_loop_of_its_own(work: Coroutine[Any, Any, T]) -> T:
    """Run beside a browser of another test, whose loop is this thread's as long as the session lasts."""
    of_the_browser = _get_running_loop()
    _set_running_loop(None)
    try:
        return asyncio.run(work)
    finally:
        _set_running_loop(of_the_browser)


def without_a_socket(application: Any, method: str, path: str) -> Reply:
    """What the application itself answers, whether or not it raises after that."""
    messages: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x"}

    async def send(message: Any) -> None:
        messages.append(message)

    headers = [(b"host", b"[::1]:1")]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
    with suppress(ZeroDivisionError):
        in_a_loop_of_its_own(application(scope, receive, send))
    sent = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
    return Reply(messages[0]["status"], sent, messages[1]["body"])


def test_whoever_waits_is_counted(tmp_path: Path) -> None:
    """Where nobody may wait, neither a log nor a link is worked on."""
    from kvmwhy.serve.app import Settings, app
    from kvmwhy.serve.limits import ServerLimits
    from kvmwhy.serve.store import Store

    store = Store(str(tmp_path / "kept.sqlite"), days=1, most=1, size=1000)
    token = store.keep(b"{}")
    served = app(Settings(store=store, limits=ServerLimits(waiting=0)))
    statuses = [
        without_a_socket(served, method, path).status
        for method, path in (("POST", "/"), ("GET", f"/r/{token}"), ("GET", "/r/none"))
    ]
    store.close()
    assert statuses == [503, 503, 404]


def test_a_fault_of_the_server_has_the_headers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of: 500, with nothing of it in the answer."""
    from kvmwhy.serve.app import Settings, app
    from kvmwhy.serve.store import Store

    store = Store(str(tmp_path / "kept.sqlite"), days=1, most=1, size=1000)
    monkeypatch.setattr(Store, "find", lambda *_: 1 // 0)
    reply = without_a_socket(app(Settings(store=store)), "GET", "/r/none")
    store.close()
    assert (reply.status, reply.body) == (500, b"Internal Server Error")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")


def test_counters_and_log_hold_nothing_of_a_log(server: Served) -> None:
    """Prometheus' text format, with labels of fixed lists; the log has a route, a status and a time."""
    server.post(SECRET + GOOD.read_bytes(), "/?name=secret.log")
    text = server.ask("GET", "/metrics").body.decode()
    assert re.search(r'^kvmwhy_serve_requests_total\{route="explain",status="200"\} [1-9]', text, re.MULTILINE)
    for line in text.splitlines():
        assert re.fullmatch(r"# TYPE \w+ \w+|\w+(\{[^}]*\})? [0-9.e+-]+", line)
    assert "secret" not in text + server.log.read_text()
    for line in server.log.read_text().splitlines()[1:]:
        assert re.search(r" (explain|form|record|healthz|metrics|other) \d{3} \d+ ms$", line), line


def test_no_process_is_left(tmp_path: Path) -> None:
    """When the server ends, so do its processes."""
    with serving(tmp_path) as server:
        assert server.post(GOOD.read_bytes()).status == 200
        children = _children(server.process.pid)
        assert len(children) == 1
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in children):
            return
        time.sleep(0.1)
    pytest.fail("a worker outlives its server")


def test_the_parent_of_the_processes_is_started_again(tmp_path: Path) -> None:
    """Killed, it is missed at the next request: 503 until there is another, which answers."""
    with serving(tmp_path) as server:
        (parent,) = _children(server.process.pid)
        os.kill(parent, signal.SIGKILL)
        _wait(lambda: b") Z " in Path(f"/proc/{parent}/stat").read_bytes())
        assert server.ask("GET", "/healthz").status == 503
        refused = server.post(GOOD.read_bytes())
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert refused.headers["content-security-policy"].startswith("default-src 'none'")
        _wait(lambda: server.ask("GET", "/healthz").status == 200)
        assert server.post(GOOD.read_bytes()).json()["failures"]
        assert len(_children(server.process.pid)) == 1


def test_without_a_free_file_the_parent_waits(tmp_path: Path) -> None:
    """It can accept no request (EMFILE), lives on, and answers when it can."""
    with serving(tmp_path) as server:
        (parent,) = _children(server.process.pid)
        before = resource.prlimit(parent, resource.RLIMIT_NOFILE)
        resource.prlimit(parent, resource.RLIMIT_NOFILE, (3, before[1]))
        timer = threading.Timer(1, lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, before))
        timer.start()
        assert server.post(GOOD.read_bytes()).status == 200
        timer.join()
        assert _children(server.process.pid) == [parent]


def test_without_a_process_it_is_not_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fork fails once (EAGAIN): that task may be given again, and the next is answered by the same parent."""
    from kvmwhy.serve.limits import ServerLimits
    from kvmwhy.serve.pool import NoWorkerError, Pool
    from kvmwhy.serve.worker import Answer, Task

    failing = tmp_path / "python"
    failing.write_text(
        f"#!{sys.executable}\n"
        "import errno, os, sys\n"
        "fork, failures = os.fork, [BlockingIOError(errno.EAGAIN, 'made to fail')]\n"
        "def once():\n"
        "    if failures:\n"
        "        raise failures.pop()\n"
        "    return fork()\n"
        "os.fork = once\n"
        "del sys.argv[1:3]\n"
        "from kvmwhy.serve import worker\n"
        "worker.main()\n"
    )
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))

    async def twice() -> tuple[str, Answer]:
        pool = Pool(ServerLimits())
        await asyncio.to_thread(pool.start)
        try:
            with GOOD.open("rb") as log:
                with pytest.raises(NoWorkerError) as refused:
                    await pool.explain(log, Task())
                return str(refused.value), await pool.explain(log, Task())
        finally:
            await pool.close()

    said, answer = in_a_loop_of_its_own(twice())
    assert "no process" in said
    assert len(answer.json) == 1


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A connection leaves objects in cycles, 1 KiB: a thousand of them are collected while the server runs."""
    with serving(tmp_path) as server:
        held = []
        for _ in range(3):
            for _ in range(1000):
                server.ask("GET", "/healthz")
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            held.append(int(status.partition("RssAnon:")[2].split()[0]))
        assert held[2] - held[0] < 700, held  # KiB; 2,000 if nothing is collected


def _wait(done: Callable[[], bool]) -> None:
    for _ in range(300):
        if done():
            return
        time.sleep(0.1)
    pytest.fail("it does not come")


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for thread in threads for word in thread.read_text().split()]


def test_many_at_once(server: Served) -> None:
    """Each of twelve gets its own answer."""
    wrong: list[object] = []

    def one(address: int) -> None:
        log = GOOD.read_bytes().replace(b"RIP=0000000000008086", b"RIP=%016x" % address)
        reply = server.post(log)
        if f"{address:#x}" not in reply.body.decode():
            wrong.append((address, reply))

    threads = [threading.Thread(target=one, args=(0x10_0000 + n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_the_pages_in_a_browser(chromium: Browser, server: Served, scheme: str, width: int) -> None:
    """Pasted by keyboard, kept, sent as a file; axe finds nothing on any of the pages, and none is too wide."""
    with visit(chromium, server.url, scheme=scheme, width=width) as seen:
        assert violations(seen.page) == []
        seen.page.fill("#text", GOOD.read_text())
        seen.page.click("text=Explain and keep")
        seen.page.wait_for_url("**/r/*")
        assert "vmovdqu" in seen.page.inner_text("h1")
        assert violations(seen.page) == []
        seen.page.goto(server.url)
        seen.page.set_input_files("#file", GOOD)
        seen.page.wait_for_selector("#answer article")
        assert violations(seen.page) == []
        assert overflow(seen.page) <= 0
        seen.page.goto(server.url + "r/none")
        assert violations(seen.page) == []
        assert [error for error in seen.errors if "404" not in error] == []
        assert seen.outside(server.url) == []


def test_a_hostile_log_executes_nothing(chromium: Browser, server: Served) -> None:
    """Pasted and sent as a file."""
    log = HOSTILE + GOOD.read_bytes().replace(b"\n", b"\n" + HOSTILE[:300], 3) + HOSTILE
    with visit(chromium, server.url) as seen:
        seen.page.set_input_files("#file", {"name": "<img src=x>.log", "mimeType": "text/plain", "buffer": log})
        seen.page.wait_for_selector("#answer article")
        assert seen.page.locator("#answer :is(img, iframe, script, style)").count() == 0
        seen.page.fill("#text", log.decode("utf-8", "replace").replace("\x1b", "").replace("\x07", "")[:200_000])
        seen.page.click("text=Explain >> nth=0")
        seen.page.wait_for_load_state()
        assert "owned" not in seen.page.title()
        assert seen.outside(server.url) == []
        assert seen.errors == []


DRAG = """(kinds) => kinds.map((kind) => {
  const data = new DataTransfer();
  if (kind === 'file') data.items.add(new File(['x'], 'a.log')); else data.setData('text/plain', 'x');
  const event = new DragEvent('dragover', { dataTransfer: data, cancelable: true, bubbles: true });
  document.getElementById('text').dispatchEvent(event);
  return event.defaultPrevented;
})"""


def test_only_files_that_are_dragged_are_taken(chromium: Browser, server: Served) -> None:
    """Text goes where the browser puts it. Of a file that was cut off, that is said beside the answer."""
    with visit(chromium, server.url) as seen:
        assert seen.page.evaluate(DRAG, ["file", "text"]) == [True, False]
        seen.page.set_input_files("#file", {"name": "a.gz", "mimeType": "application/gzip", "buffer": CUT_OFF})
        seen.page.wait_for_selector("#answer article")
        assert "more than 64 MiB" in seen.page.inner_text("#answer ul.remarks")
        assert violations(seen.page) == []
