"""Chromium for the tests of pages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from needs import missing

Drive = Callable[..., str]


@pytest.fixture
def drive(tmp_path: Path) -> Drive:
    """Open a file in a browser of our own, and give the document as it is when it has settled."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        missing("browser", "no chromium: apt-get install --no-install-recommends chromium")

    def run(path: Path, *options: str) -> str:
        command = [
            program, "--headless=new", "--no-sandbox",  # root in a container has no other way
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
