"""The heat map of the opcode space: what it says against the atlas, and how it is in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from browser import looks_of, overflow, violations, visit
from kvmwhy.cli.main import kvmwhy
from kvmwhy.emulator.atlas import atlas
from kvmwhy.emulator.encoding_key import LEGACY, VEX, place_of
from outlines import held

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heat") / "atlas.html"
    made = CliRunner().invoke(kvmwhy, ["atlas", "--html", str(path), "--kernel", "6.18"])
    assert made.exit_code == 0, made.output
    return path


def test_it_is_well_formed_and_loads_nothing(page: Path) -> None:
    """Ids once, links that lead somewhere, one style and one script, both allowed by their hashes alone."""
    text = page.read_text()
    held(text)
    assert "unsafe" not in text
    assert len(text) < 2_000_000


def test_each_cell_is_the_atlas(page: Path) -> None:
    """Of every opcode of the seven maps: the letter of each kernel, worked out anew from the rows."""
    maps = {(LEGACY, 0): "0", (LEGACY, 1): "0f", (LEGACY, 2): "0f38", (LEGACY, 3): "0f3a"}
    maps |= {(VEX, 1): "vex1", (VEX, 2): "vex2", (VEX, 3): "vex3"}
    known: dict[str, list[list[str]]] = {}
    for row in atlas():
        place = place_of(row.code, row.mode)
        if row.defined and place and (name := maps.get((place.encoding, place.number))):
            kinds = [verdict.kind if verdict else "" for verdict in row.verdicts[:8]]
            known.setdefault(f"{name}-{place.opcode:02x}", []).append(kinds)
    letters = {}
    for name, rows in known.items():
        letters[name] = ""
        for seen in ({kind for kind in column if kind} for column in zip(*rows, strict=True)):
            works = "emulated" in seen
            letters[name] += "ys"[len(seen) > 1] if works else "x" if seen == {"exception"} else "n"
    cells = re.findall(r'class="v([ysnx-]{8})"[^>]*><a href="#o([^"]+)"', page.read_text())
    assert {name: outcomes for outcomes, name in cells} == letters


@pytest.mark.parametrize(("scheme", "width"), looks_of("x86"))
def test_in_a_browser(chromium: Browser, page: Path, scheme: str, width: int) -> None:
    """Axe finds nothing, nothing is asked for, and the page is no wider than its window."""
    with visit(chromium, page.as_uri(), scheme=scheme, width=width) as seen:
        assert overflow(seen.page) <= 0
        assert violations(seen.page) == []
        assert seen.errors == []
        assert seen.outside("file:") == []


def test_filters(chromium: Browser, page: Path) -> None:
    """The kernel and what is shown are chosen without a script; a name is found with it."""
    with visit(chromium, page.as_uri()) as seen:
        cell = seen.page.locator('td:has(> a[href="#ovex1-6f"])')
        colour = "element => getComputedStyle(element).backgroundColor"
        old = cell.evaluate(colour)
        seen.page.check("#k7")
        assert cell.evaluate(colour) != old
        seen.page.check("#schanged")
        assert seen.page.locator('a[href="#o0-88"]').is_hidden()
        assert cell.locator("a").is_visible()
        seen.page.check("#sall")
        seen.page.fill("#q", "movntdqa")
        assert seen.page.locator('a[href="#o0f38-2a"]').is_visible()
        assert seen.page.locator('a[href="#o0-88"]').is_hidden()
        assert "forms" in seen.page.locator("#count").inner_text()
