"""The server: the same answers as the command line, nothing kept but what was asked for, and limits that hold."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from browser import LOOKS, overflow, violations, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("uvicorn", reason="the extra web is not installed")
pytest.importorskip("starlette", reason="the extra web is not installed")

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "examples" / "avx-move-on-mmio.log"
SECRET = b"2026-01-02 host-of-nobody qemu[4711]: path=/home/somebody/secret.img\n"
HOSTILE = (
    b"<script>document.title='owned'</script><img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">\n"
    b"</pre></title></style></svg></main></body><iframe src=http://127.0.0.1:9/></iframe>\n"
    b"\x1b]0;owned\x07\x1b[2J\xe2\x80\xaedenwo\n" + b"A" * (1 << 20) + b"\n"
)


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
    """When their days are over, and the oldest when there are too many."""
    from kvmwhy.serve.store import Store

    path = str(tmp_path / "kept.sqlite")
    store = Store(path, days=3, most=2)
    tokens = [store.keep(b"record %d" % n) for n in range(3)]
    assert [store.find(token) for token in tokens] == [None, b"record 1", b"record 2"]
    with sqlite3.connect(path) as database:
        database.execute("update records set made = made - 4 * 86400 where token = ?", (tokens[1],))
    database.close()
    assert store.find(tokens[1]) is None
    store.forget()
    assert store.count() == 1
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
        began = time.monotonic()
        reply = server.post(slow)
        assert reply.status == 422, reply.body[:300]
        assert "limits" in reply.json()["error"]
        assert time.monotonic() - began < 60
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


def test_counters_and_log_hold_nothing_of_a_log(server: Served) -> None:
    """Prometheus' text format, with labels of fixed lists; the log has a route, a status and a time."""
    server.post(SECRET + GOOD.read_bytes(), "/?name=secret.log")
    text = server.ask("GET", "/metrics").body.decode()
    assert re.search(r'^kvmwhy_serve_requests_total\{route="explain",status="200"\} [1-9]', text, re.MULTILINE)
    for line in text.splitlines():
        assert re.fullmatch(r"# TYPE \w+ \w+|\w+(\{[^}]*\})? [0-9.e+-]+", line)
    assert "secret" not in text + server.log.read_text()
    for line in server.log.read_text().splitlines()[1:]:
        assert re.search(r" (explain|form|record|healthz|metrics) \d{3} \d+ ms$", line), line


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
