"""Groups, hosts, trends and what stands out, against the same worked out row by row."""

# ruff: noqa: S311 -- the same each time is what is wanted
from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kvmwhy.fleet.row import Row
from kvmwhy.fleet.store import StoreError, write_rows
from kvmwhy.fleet.tables import roll_up
from kvmwhy.fleet.triage import Triage, triage
from kvmwhy.render.fleet_html import page
from kvmwhy.render.fleet_text import direction, overview, to_json
from kvmwhy.render.page import to_plain

START = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)
EVIL = "\x1b[2J</script><img src=x onerror=alert(1)>'\";DROP TABLE rows;--\u202e"


def row(n: int, rng: random.Random) -> Row:
    """A host's number says its kernel and microcode; group "b" is on hosts with the new microcode only."""
    host = rng.randrange(50)
    new = host < 10
    group = rng.choice("ab" if new else "a")
    time = START + timedelta(minutes=rng.randrange(60 * 24 * 20))
    return Row(
        path=f"/var/log/{host}.log",
        offset=n,
        count=rng.choice((1, 1, 3, 1000)),
        host=f"host{host}",
        time=time,
        last_time=time + timedelta(minutes=5),
        kernel="6.1.0" if host % 2 else "6.12.0",
        microcode="0x2b000661" if new else "0x2b000590",
        cause="cpu-erratum" if group == "b" else "emulator-no-handler",
        instruction="rsm" if group == "b" else "fld m32",
        signature=f"v1 {group}",
        why=f"cause {group}",
        answer="It failed.",
    )


def written(path: Path, rows: list[Row]) -> str:
    with path.open("wb") as sink:
        write_rows(sink, rows, path.suffix)
    return str(path)


@pytest.fixture
def rows() -> list[Row]:
    rng = random.Random(5)
    return [row(n, rng) for n in range(2000)]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_groups_are_those_of_a_count_by_hand(tmp_path: Path, rows: list[Row], suffix: str) -> None:
    """Counts, hosts, first and last of each group; the one on most hosts first."""
    found = triage([written(tmp_path / f"r{suffix}", rows)], by=["kernel"])
    hosts, counts, kernels = defaultdict(set), Counter[str](), Counter[tuple[str, str | None]]()
    for r in rows:
        hosts[r.signature].add(r.host)
        counts[r.signature] += r.count
        kernels[r.signature, r.kernel] += r.count
    assert [g.signature for g in found.groups] == ["v1 a", "v1 b"]
    for g in found.groups:
        mine = [r for r in rows if r.signature == g.signature]
        assert (g.count, g.hosts) == (counts[g.signature], len(hosts[g.signature]))
        assert (g.first, g.last) == (min(r.time for r in mine if r.time), max(r.last_time for r in mine if r.last_time))
        assert sum(g.trend) == g.count
        assert {(v, n) for _, v, n in g.by} == {(k, n) for (s, k), n in kernels.items() if s == g.signature}
    assert (found.count, found.hosts, found.population) == (sum(counts.values()), 50, 50)


def test_what_stands_out_is_said_with_its_shares(tmp_path: Path, rows: list[Row]) -> None:
    """All hosts of the group have the new microcode, a fifth of all hosts have it, and all of those failed so."""
    _, b = triage([written(tmp_path / "r.parquet", rows)]).groups
    (microcode,) = (o for o in b.outliers if o.dimension == "microcode")
    assert (microcode.value, microcode.share, microcode.overall, microcode.hit) == ("0x2b000661", 1.0, 0.2, 1.0)
    assert not [o for o in b.outliers if o.dimension == "kernel"]


def test_an_inventory_counts_hosts_that_did_not_fail(tmp_path: Path, rows: list[Row]) -> None:
    """Its columns tell groups apart as well, and what a log did not say is taken from it."""
    bare = [replace(r, microcode=None) for r in rows]
    lines = ["host,microcode,rack"]
    lines += [f"host{n},{'0x2b000661' if n < 10 else '0x2b000590'},r{n // 5}" for n in range(200)]
    (tmp_path / "hosts.csv").write_text("\n".join(lines))
    found = triage([written(tmp_path / "r.parquet", bare)], inventory=str(tmp_path / "hosts.csv"))
    assert found.population == 200
    (microcode,) = (o for o in found.groups[1].outliers if o.dimension == "microcode")
    assert (microcode.share, microcode.overall, microcode.hit) == (1.0, 0.05, 1.0)


def test_rolled_up_file_by_file_is_the_same(tmp_path: Path, rows: list[Row]) -> None:
    """However the rows are spread over files, and whoever rolls them up."""
    whole = [written(tmp_path / "all.parquet", rows)]
    parts = [written(tmp_path / f"{n}.parquet", rows[n::7]) for n in range(7)]
    by = ("cause", "mode")
    wanted = triage(whole, by=by)
    assert triage(parts, by=by) == wanted
    assert triage([str(tmp_path / "[0-9].parquet")], by=by) == wanted
    assert triage(parts, by=by, tables=[roll_up(part, by, None) for part in parts]) == wanted


def test_since_leaves_out_what_is_older(tmp_path: Path, rows: list[Row]) -> None:
    """By the last time that a row was seen."""
    since = START + timedelta(days=15)
    found = triage([written(tmp_path / "r.parquet", rows)], since=since)
    assert found.count == sum(r.count for r in rows if r.last_time and r.last_time >= since)
    assert triage([written(tmp_path / "none.parquet", [])], since=since).groups == ()


def strange(tmp_path: Path) -> Triage:
    names = ("path", "host", "kernel", "cause", "signature", "why", "answer", "instruction")
    evil = replace(Row(path=EVIL, offset=0, time=START), **dict.fromkeys(names, EVIL))
    rows = [replace(evil, host=f"{EVIL}{n}") for n in range(5)] + [
        replace(evil, signature="v1 x", kernel="6.1") for _ in "12"
    ]
    return triage([written(tmp_path / "it's [a] *.jsonl", rows)], by=["kernel", "host"])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [
            value for name, value in attrs if name in {"src", "href", "srcset", "action"} or name.startswith("on")
        ]


def test_hostile_strings_stay_strings(tmp_path: Path) -> None:
    """Nothing of a log is SQL, markup or an escape of a terminal; the page loads nothing."""
    found = strange(tmp_path)
    assert len(found.groups) == 2
    text = to_plain(overview(found), 100)
    assert "\x1b" not in text
    assert "\u202e" not in text
    html = page(found)
    tags = Tags()
    tags.feed(html)
    assert not tags.seen & {"script", "img", "link", "iframe", "object"}
    assert set(tags.links) == {"#g1", "#g2"}
    assert "http" not in html.replace("Content-Security-Policy", "").replace("http-equiv", "")
    told: dict[str, Any] = json.loads(to_json(found))
    assert told["schema"] == 1
    assert "\x1b" not in json.dumps(told, ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.parquet", b"no parquet", "no table of rows"),
        ("a.jsonl", b'{"some": "thing"}\n', "no row of schema 1"),
        ("a.jsonl", b'{"row": 2, "path": "x"}\n', "no row of schema 1"),
        ("a.jsonl", b'{"row": 1, "count": "many"}\n', "no table of rows"),
        ("a.jsonl", b"\x00\xff garbage", "no table of rows"),
    ],
)
def test_foreign_tables_are_one_sentence(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    """What scan did not write is refused, by name."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoreError, match=why) as error:
        triage([str(tmp_path / name)])
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_a_parquet_file_of_others_is_refused(tmp_path: Path) -> None:
    """A table with other columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"path": ["x"], "count": [1]}), tmp_path / "other.parquet")
    with pytest.raises(StoreError, match=r"other\.parquet: it is no table of rows"):
        triage([str(tmp_path / "other.parquet")])


def test_a_column_that_is_none_is_named(tmp_path: Path, rows: list[Row]) -> None:
    """--by with a typing error."""
    with pytest.raises(StoreError, match="rows have no column 'colour'"):
        triage([written(tmp_path / "r.parquet", rows)], by=["colour"])


@pytest.mark.parametrize(
    ("trend", "said"),
    [
        ((0,) * 30 + (5,) * 10, "new"),
        ((5,) * 30 + (0,) * 10, "none of late"),
        ((5,) * 40, "steady"),
        ((1,) * 30 + (9,) * 10, "rising, ×9.0"),
        ((9,) * 30 + (1,) * 10, "falling"),
        ((9,) * 20 + (0,) * 10 + (1,) * 10, "back again"),
    ],
)
def test_a_trend_in_one_word(trend: tuple[int, ...], said: str) -> None:
    """The last quarter against the one before."""
    assert direction(trend) == said
