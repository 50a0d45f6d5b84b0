"""Makes docs/pictures/ from kvmwhy's own pages, with a browser that is installed.

.venv/bin/python tools/make_pictures.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PICTURES: Final = ROOT / "docs" / "pictures"
# Each picture: the command that makes its page, and what of it is shown, in pixels.
PAGES: Final = {
    "explain": (("explain", "examples/avx-move-on-mmio.log", "--html"), (1000, 985)),
    "triple-fault": (("explain", "tests/fixtures/truths-lab/svm-6.1/triple-pf/trace.txt", "--html"), (1000, 705)),
    "atlas": (("atlas", "--kernel", "7.3", "--html"), (1200, 800)),
    "atlas-arm64": (("atlas", "--arch", "arm64", "--kernel", "7.3", "--html"), (1280, 1420)),
}


def main() -> int:
    """Every picture, or status 2 without a browser."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.stderr.write("no chromium here\n")
        return 2
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, (command, (width, height)) in PAGES.items():
            page = Path(place, f"{name}.html")
            subprocess.run([sys.executable, "-m", "kvmwhy", *command, str(page)], cwd=ROOT, check=True)
            options = [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={place}/profile",
            ]
            options += [f"--window-size={width},{height}", f"--screenshot={PICTURES / name}.png", page.as_uri()]
            subprocess.run([browser, *options], check=True, capture_output=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
