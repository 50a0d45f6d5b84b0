"""The page of a triage in a real browser: what it shows of hostile rows, what it loads, how it fits."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from browser import Drive
from kvmwhy.fleet.row import Row
from kvmwhy.fleet.store import write_rows
from kvmwhy.fleet.triage import triage
from kvmwhy.render.fleet_html import page

START = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = (
    "<script>document.title='owned'</script>",
    "</style></title></svg><img src=http://127.0.0.1:9/x onerror=\"document.title='owned'\">",
    "'\"><link rel=stylesheet href=http://127.0.0.1:9/y.css><iframe src=http://127.0.0.1:9/></iframe>",
    "&lt;b&gt;\x00\x07\x1b[2J\x9b31m\u202edlrow\u200b",
    "A" * 10_000,
    "שלום " * 40,
)


def made(tmp_path: Path, rows: list[Row], by: tuple[str, ...] = ()) -> Path:
    with (tmp_path / "rows.jsonl").open("wb") as sink:
        write_rows(sink, rows, ".jsonl")
    path = tmp_path / "page.html"
    path.write_text(page(triage([str(tmp_path / "rows.jsonl")], by=by)))
    return path


def hostile() -> list[Row]:
    """Every text of a row is hostile, on several hosts, so that it is in every sentence and table."""
    return [
        Row(
            path=f"/{text}/{n}", offset=n, host=f"{text}{n}", time=START + timedelta(hours=n), kernel=text,
            microcode=text, cause=text if kind % 2 else "fetch-non-ram", family=text, confidence=text, answer=text,
            advice=text, signature=f"v2 {kind} {text}", why=f"instruction {text}, place {text}",
        )
        for kind, text in enumerate(HOSTILE)
        for n in range(12)
    ]  # fmt: skip


def usual() -> list[Row]:
    """Groups of a fleet: one on most hosts, one that stands out, with times over two months."""
    return [
        Row(
            path=f"/srv/lake/2026-03/node{n % 40}.log", offset=n, count=1 + n % 7 * 100_000,
            host=f"node{n % 40}.example", time=START + timedelta(hours=n * 3 << 2 * kind), kernel="6.1.0-18-amd64",
            microcode="0x2b000661" if kind else "0x2b000590",
            cause=("emulator-no-handler", "fetch-non-ram", "entry-rule-broken")[kind], confidence="likely",
            answer="KVM cannot emulate `fld dword ptr [ebx]`, which the guest ran at 0x803e.", advice="Update to 9.9.",
            signature=f"v2 {kind}", why="mode prot32, instruction fld m32, access read, place hpet",
        )
        for kind in range(3)
        for n in range(480 >> 2 * kind)
    ]  # fmt: skip


class Seen(HTMLParser):
    """Elements, their attributes, and the text of the body."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_browser_shows_hostile_rows_as_text_and_loads_nothing(tmp_path: Path, drive: Drive) -> None:
    """No element comes from a row, no script runs, and the browser asks for no URL but the page's own."""
    path = made(tmp_path, hostile(), by=("kernel", "host"))
    seen, asked = logged(drive, path)
    assert {"h1", "h2", "table", "svg", "details"} <= set(seen.tags)
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in {"src", "srcset"}]
    assert all(value.startswith("#g") for name, value in seen.attributes if name == "href")
    assert "owned" not in (re.search(r"<title>(.*?)</title>", path.read_text(), re.DOTALL) or [""])[0]
    assert HOSTILE[0] in seen.text
    assert HOSTILE[2] in seen.text
    assert not [c for c in seen.text if not c.isprintable() and c != "\n"]
    assert not asked
    control = tmp_path / "control.html"
    control.write_text("<title>x</title>" + "".join(HOSTILE[:3]).replace("</title>", ""))
    told, asked = logged(drive, control)
    assert {"http://127.0.0.1:9/x", "http://127.0.0.1:9/y.css", "http://127.0.0.1:9/"} <= asked
    assert "img" in told.tags


def logged(drive: Drive, path: Path) -> tuple[Seen, set[str]]:
    """The document, and what was asked for it: the hostile rows' URLs, since a browser asks for things of its own."""
    log = path.with_suffix(".json")
    seen = Seen(drive(path, f"--log-net-log={log}"))
    return seen, set(re.findall(r'"url":\s*"(http://127[^"]+)"', log.read_text()))


MEASURE = (Path(__file__).parent / "measure.html").read_text()


def measured(tmp_path: Path, drive: Drive, width: int, *, dark: bool = False) -> dict[str, Any]:
    (tmp_path / "measure.html").write_text(MEASURE.replace("WIDTH", str(width)))
    document = drive(
        tmp_path / "measure.html", "--allow-file-access-from-files", f"--window-size={max(width, 800)},1000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    )  # fmt: skip
    told = re.search(r'<pre id="out">(.*?)</pre>', document, re.DOTALL)
    assert told, document[-500:]
    out: dict[str, Any] = json.loads(html.unescape(told[1]))
    return out


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_legible_wide_and_narrow(tmp_path: Path, drive: Drive, *, dark: bool) -> None:
    """Nothing sticks out sideways, what to do first is on the first screen, and text has the contrast of WCAG 1.4.3."""
    made(tmp_path, usual(), by=("kernel", "microcode"))
    for width in (1400, 400):
        told = measured(tmp_path, drive, width, dark=dark)
        assert told["wide"] <= width
        assert told["first"] < 900
        assert told["contrast"][0] >= 4.5, told["contrast"]
        assert told["smallest"][1] >= 11, told["smallest"]
        assert (sum(map(int, re.findall(r"\d+", told["background"])[:3])) < 384) == dark
        assert len(told["plots"]) == 4  # of all, and of each group
        for label, bars, plot in told["plots"]:
            assert "hours each bar; at most" in label
            assert bars > 4
            assert plot > width * 0.5


def test_the_page_is_one_for_a_keyboard_and_a_reader_of_screens(tmp_path: Path, drive: Drive) -> None:
    """Headings in order, the first of them where to begin; tables with heads; every link and fold can be reached."""
    made(tmp_path, usual(), by=("kernel",))
    told = measured(tmp_path, drive, 1400)
    assert told["headings"][:4] == ["H1 KVM failures", "H2 Start here", "H2 What there is", "H2 When"]
    assert told["headings"][4] == "H2 1. KVM's emulator has no handler for this instruction: fld m32"
    assert told["focus"] == 1 + 3 + 3 + 3  # the first, each in the list, each group's fold and its hosts
    assert told["targets"]
    assert told["headers"]


def test_hostile_rows_do_not_stretch_the_page(tmp_path: Path, drive: Drive) -> None:
    """Ten thousand letters without a space, on a narrow screen."""
    made(tmp_path, hostile(), by=("kernel", "host"))
    assert measured(tmp_path, drive, 400)["wide"] <= 400
