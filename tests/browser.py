"""Chromium for the tests of pages: a browser of our own, folders that are served to it, and axe's verdict on a page."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from kvmwhy.page.packages import Package, PackageError, obtain
from needs import missing
from samples import EVERY_CASE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Drive = Callable[..., str]

AXE: Final = Package(
    "npm",
    "axe-core",
    "4.14.1",
    "axe-core-4.14.1.tgz",
    "https://registry.npmjs.org/axe-core/-/axe-core-4.14.1.tgz",
    "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745",
)
LOOKS: Final = (("light", 1280), ("dark", 1280), ("light", 400))  # colour scheme and width
# Of the maps, whose thousands of cells take axe long, ./check shows each in a look of its own.
LOOK_OF: Final = dict(zip(("x86", "arm64", "riscv64"), LOOKS, strict=True))
_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_NO_SANDBOX: Final = "--no-sandbox"  # root in a container has no other way


def packaged(package: Package) -> bytes:
    """A package of a registry; skip where it cannot be had, or fail where the run promises that it can."""
    try:
        return obtain(package)
    except PackageError as error:
        missing("packages", str(error))


def program() -> str:
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    return found or missing("browser", "no chromium: apt-get install --no-install-recommends chromium")


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Open a file in a browser of our own, and give the document as it is when it has settled."""
    chromium = program()

    def run(path: Path, *options: str) -> str:
        command = [
            chromium, "--headless=new", _NO_SANDBOX,
            "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
            "--no-first-run", "--no-default-browser-check", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=5000", *options, "--dump-dom", path.as_uri(),
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        ) as browser:
            try:
                return browser.communicate(timeout=240)[0]
            finally:
                if browser.poll() is None:
                    os.killpg(browser.pid, signal.SIGKILL)

    return run


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium under Playwright, for pages that are to be clicked on."""
    path = program()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("browser", "no playwright: uv sync --group browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=[_NO_SANDBOX, "--disable-dev-shm-usage"], timeout=120_000
        )
        yield browser
        browser.close()


class Visit:
    """A page that is open, what it complained of, and every address that it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(180_000)  # the machine may be busy with others
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", self._dialog)

    def _dialog(self, dialog: Any) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def outside(self, *allowed: str) -> list[str]:
        """What it asked for besides what begins with ``allowed``, and data that it made itself."""
        return [url for url in self.asked if not url.startswith((*allowed, "blob:", "data:", "about:"))]


@contextmanager
def visit(browser: Browser, url: str, *, scheme: Any = "light", width: int = 1280, init: str = "") -> Iterator[Visit]:
    """Open an address in a profile of its own; ``init`` is a script that runs before those of the page."""
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, accept_downloads=True, reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        if init:
            page.add_init_script(init)
        seen = Visit(page)
        page.goto(url)
        yield seen
    finally:
        context.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Python's own web server on a folder, as docs tell people to use it; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page as it stands, one line for each rule and element."""
    page.evaluate(_axe())
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider


@cache
def _axe() -> str:
    with tarfile.open(fileobj=io.BytesIO(packaged(AXE))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode() + "; 0"


def looks_of(arch: str) -> tuple[tuple[str, int], ...]:
    """How the map of an architecture is looked at."""
    return LOOKS if EVERY_CASE else (LOOK_OF[arch],)


def every(paths: Sequence[Path], count: int) -> list[Path]:
    """So many of them, evenly spread."""
    return [paths[len(paths) * n // count] for n in range(min(count, len(paths)))]
