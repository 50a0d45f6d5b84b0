"""Makes docs/pictures/ from kvmwhy's own pages, with a browser that is installed and Playwright (group browser).

.venv/bin/python tools/make_pictures.py [NAME …]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT: Final = Path(__file__).parent.parent
PICTURES: Final = ROOT / "docs" / "pictures"
EXAMPLE: Final = "examples/avx-move-on-mmio.log"
START: Final = 120_000  # milliseconds for Python to start in a page


class Picture(NamedTuple):
    """``commands`` make the page PAGE, with what is in LAKE; ``size`` is what of it is shown, in pixels."""

    commands: tuple[tuple[str, ...], ...]
    size: tuple[int, int]
    pasted: str = ""  # a log, into the page's form


PAGES: Final = {
    "explain": Picture((("explain", EXAMPLE, "--html", "PAGE"),), (1000, 963)),
    "triple-fault": Picture(
        (("explain", "tests/fixtures/truths-lab/svm-6.1/triple-pf/trace.txt", "--html", "PAGE"),), (1000, 705)
    ),
    "atlas": Picture((("atlas", "--kernel", "7.3", "--html", "PAGE"),), (1200, 800)),
    "atlas-arm64": Picture((("atlas", "--arch", "arm64", "--kernel", "7.3", "--html", "PAGE"),), (1280, 1420)),
    "page": Picture((("page", "--out", "PAGE"),), (1000, 900), pasted=EXAMPLE),
    "triage": Picture(
        (("scan", "LAKE", "--out", "LAKE/rows.jsonl"), ("triage", "LAKE/rows.jsonl", "--html", "PAGE")), (1100, 900)
    ),
}
# A fleet for the triage: each failure, on which of twelve hosts, and every how many hours since when.
FLEET: Final = (
    (EXAMPLE, range(12), 9, 0),
    ("tests/fixtures/prot32-flds/qemu.log", range(2, 7), 31, 240),
    ("tests/fixtures/long64-jump/qemu.log", range(9, 10), 5, 900),
)
BEGIN: Final = datetime(2026, 3, 1, tzinfo=UTC)
HOURS: Final = 1000


def main() -> int:
    """Every picture, or those that are named; status 2 without a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        sys.stderr.write("no chromium here, or no playwright: uv sync --group browser\n")
        return 2
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        lake(Path(place, "lake"))
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for name in sys.argv[1:] or PAGES:
            draw(opened, PAGES[name], Path(place), PICTURES / f"{name}.png")
        opened.close()
    return 0


def draw(browser: Browser, picture: Picture, place: Path, out: Path) -> None:
    page = place / f"{out.stem}.html"
    for command in picture.commands:
        words = [word.replace("PAGE", str(page)).replace("LAKE", str(place / "lake")) for word in command]
        subprocess.run([sys.executable, "-m", "kvmwhy", *words], cwd=ROOT, check=True)
    width, height = picture.size
    shown = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    shown.goto(page.as_uri())
    if picture.pasted:
        shown.wait_for_selector("body[data-state=ready]", timeout=START)
        shown.fill("textarea", (ROOT / picture.pasted).read_text())
        for _ in range(2):  # the first answer's time is that of imports as well
            shown.click("button[type=submit]")
            shown.wait_for_selector("body[data-state=done] article", timeout=START)
        shown.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    shown.screenshot(path=out)
    shown.close()


def lake(folder: Path) -> None:
    """A file of each host, as rsyslog collects it."""
    lines: dict[str, list[str]] = {}
    for log, hosts, every, since in FLEET:
        text = (ROOT / log).read_text(errors="replace").splitlines()
        for n, hour in enumerate(range(since, HOURS, every)):
            host = f"node{hosts[n * 7 % len(hosts)]:02}"
            head = f"{(BEGIN + timedelta(hours=hour)).isoformat()} {host} qemu-system-x86_64[{2000 + hour}]: "
            lines.setdefault(host, []).extend(head + line for line in text)
    folder.mkdir()
    for host, content in lines.items():
        (folder / f"{host}.log").write_text("\n".join(content) + "\n")


if __name__ == "__main__":
    sys.exit(main())
