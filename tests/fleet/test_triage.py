"""Groups, hosts, trends and what stands out, against the same worked out row by row."""

# ruff: noqa: S311 -- the same each time is what is wanted
from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from math import comb
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from kvmwhy import __version__
from kvmwhy.cli.main import kvmwhy
from kvmwhy.cli.triage import since_when
from kvmwhy.fleet.duckdb_load import roll_up
from kvmwhy.fleet.row import Row
from kvmwhy.fleet.store import StoreError, write_rows
from kvmwhy.fleet.triage import Triage, at_random, triage
from kvmwhy.render.fleet_html import page
from kvmwhy.render.fleet_text import overview, to_json
from kvmwhy.render.fleet_words import command, direction, headline, quoted, share
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
        signature=f"v2 {group}",
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
    assert [g.signature for g in found.groups] == ["v2 a", "v2 b"]
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
        replace(evil, signature="v2 x", kernel="6.1") for _ in "12"
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
        ("a.jsonl", b'{"some": "thing"}\n', "no row of schema 2 or 3"),
        ("a.jsonl", b'{"row": 0, "path": "x"}\n', "no row of schema 2 or 3"),
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
        ((5,) * 40, "no clear trend"),
        ((1,) * 30 + (9,) * 10, "rising, ×9.0"),
        ((9,) * 30 + (1,) * 10, "falling, ×0.1"),
        ((9,) * 20 + (0,) * 10 + (1,) * 10, "back again"),
        ((9, 1, 1), ""),
        ((0,) * 40, ""),
        ((1,) * 20 + (0, 0, 1, 0) * 5, "too few of late for a trend"),
        ((0, 0, 0, 1, 0, 0, 0, 0) * 5, "too few of late for a trend"),
        ((5,) * 39 + (0,), "no clear trend"),
    ],
)
def test_a_trend_in_one_word(trend: tuple[int, ...], said: str) -> None:
    """The last quarter against the one before."""
    assert direction(trend) == said


def test_a_trend_ends_where_the_rows_end(tmp_path: Path) -> None:
    """Thirty hours with a failure each: a step for each hour, and none after the last, so it is steady and not over."""
    rows = [Row(path="x", offset=n, time=START + timedelta(hours=n), signature="v2 a") for n in range(30)]
    (group,) = triage([written(tmp_path / "r.parquet", rows)]).groups
    assert group.trend == (1,) * 30
    assert group.spread == (1,) * 30
    assert direction(group.spread) == "no clear trend"


def test_times_in_the_wrong_order_are_put_right(tmp_path: Path) -> None:
    """A row that ends before it begins, as no scan writes it: the trend reaches to the later of both."""
    rows = [
        Row(path="x", offset=n, time=START + timedelta(days=n), last_time=START - timedelta(days=900), signature="v2 a")
        for n in range(9)
    ]
    path = written(tmp_path / "r.parquet", rows)
    for how in ({}, {"tables": [roll_up(path, (), None)]}):
        found = triage([path], **how)  # type: ignore[arg-type]
        assert (found.start, found.end) == (START, START + timedelta(days=8))
        assert sum(found.groups[0].trend) == 9


@pytest.mark.parametrize("hours", [1, 39, 40, 41, 55, 79, 80, 81, 1000, 20_000])
def test_every_step_of_a_trend_is_as_long_as_the_others(tmp_path: Path, hours: int) -> None:
    """A failure in each hour: no bar is higher than another but for the last, which may be cut short."""
    rows = [Row(path="x", offset=n, time=START + timedelta(hours=n), signature="v2 a") for n in range(hours)]
    found = triage([written(tmp_path / "r.parquet", rows)])
    trend = found.groups[0].trend
    assert len(trend) <= 40
    assert sum(trend) == hours
    assert len(set(trend[:-1])) <= 1
    assert trend[-1] <= trend[0]
    assert found.step % 3600 == 0


def test_the_example_is_the_one_that_the_answer_is_of(tmp_path: Path) -> None:
    """Answers have addresses: the path and the answer that are shown belong together, and so does the advice."""
    rows = [
        Row(path=f"/{n}.log", offset=0, signature="v2 a", answer=f"at {9 - n}", advice=f"do {n}", host=f"h{n}")
        for n in range(5)
    ]
    path = written(tmp_path / "r.parquet", rows)
    for how in ({}, {"tables": [roll_up(path, (), None)]}):
        (group,) = triage([path], **how).groups  # type: ignore[arg-type]
        assert (group.example, group.answer, group.advice) == ("/0.log", "at 9", "do 0")


def test_files_of_unnamed_hosts_are_counted_beside_hosts(tmp_path: Path) -> None:
    """Two hosts by name, and three files that name none: both are said, and no share is made of the mixture."""
    rows = [Row(path="a", offset=0, host=f"h{n}", signature="v2 a") for n in range(2)]
    rows += [Row(path=f"f{n}", offset=0, signature="v2 a") for n in range(3)]
    found = triage([written(tmp_path / "r.parquet", rows)])
    assert (found.groups[0].hosts, found.groups[0].unnamed, found.population) == (2, 3, 5)
    text = to_plain(overview(found), 120)
    assert "5 times, on 2 hosts and in 3 files without a host's name\n" in text


def test_what_an_operator_reads_first(tmp_path: Path, rows: list[Row]) -> None:
    """What, on how many hosts, what to do, and the command that explains one: in this order, the last in one line."""
    rows = [replace(r, answer="It failed at 0x1000.", advice="Update to 9.9.", path="/var/log/a b.log") for r in rows]
    found = triage([written(tmp_path / "r.parquet", rows)])
    for width in (40, 80, 200):
        lines = to_plain(overview(found), width).splitlines()
        first = lines[lines.index("") + 1 :]
        text = "\n".join(first)
        order = [text.index(said) for said in ("1. ", "Seen", "What to do", "Trend", "Same in", "kvmwhy explain '")]
        assert order == sorted(order)
        assert "              kvmwhy explain '/var/log/a b.log'" in first
    assert "on 50 hosts (100% of all)" in text
    assert "host's operator: Update to 9.9." in text


def test_a_group_whose_cause_is_open_is_headed_by_what_happened(tmp_path: Path) -> None:
    """A triple fault whose first exception is not shown is a triple fault, and not "undecided"."""
    whys = ("mechanism triple-fault, failure shutdown", "mechanism not known")
    rows = [Row(path=why, offset=0, signature=f"v3 {why}", why=why, cause="undecided") for why in whys]
    heads = [headline(group) for group in triage([written(tmp_path / "r.parquet", rows)]).groups]
    assert sorted(heads) == [
        "The guest shut itself down with a triple fault",
        "This evidence cannot decide what went wrong",
    ]


@pytest.mark.parametrize(
    ("part", "said"), [(0, "0%"), (0.00001, "under 1%"), (0.5, "50%"), (0.9999, "over 99%"), (1.0, "100%")]
)
def test_a_share_is_never_all_or_none_where_it_is_not(part: float, said: str) -> None:
    """99.99 % of the hosts are not all of them."""
    assert share(part) == said


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/a.log", "kvmwhy explain /a.log"),
        ("/a/b.tar.zst:c.log", "kvmwhy explain /a/b.tar.zst"),
        ("o.zip:in.tar:x.log", "kvmwhy explain o.zip"),
        ("12:00.log", "kvmwhy explain 12:00.log"),
        ("-x.log", "kvmwhy explain ./-x.log"),
        ("s3://bucket/a.log", None),
        ("x" * 10_000, None),
    ],
)
def test_the_command_explains_the_file(tmp_path: Path, path: str, wanted: str | None) -> None:
    """Of what an archive holds, the archive; of an object store nothing, since explain reads files."""
    (group,) = triage([written(tmp_path / "r.jsonl", [Row(path=path, offset=0, signature="v2 a")])]).groups
    assert command(group) == wanted


@pytest.mark.parametrize(
    "name",
    ["a b", "it's", "$(reboot)", "`x`", "a\\b'c\x1b[2Jd", "\u202eevil", "x\x9by", "q\udc9bz", "tab\tnew\nline", "é"],
)
def test_a_quoted_name_is_that_name_to_a_shell(name: str) -> None:
    """What bash makes of it are the bytes of the file's name, and nothing of it acts on a terminal."""
    made = quoted(name)
    assert made.isprintable()
    if shutil.which("bash") is None:
        pytest.skip("no bash to ask")
    shell = subprocess.run(
        ["bash", "-c", f"printf %s {made}"], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert shell.stdout == os.fsencode(name)


@pytest.mark.parametrize(
    "text", ["999999w", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday", "7", ""]
)
def test_a_time_that_is_none_is_one_sentence(tmp_path: Path, rows: list[Row], text: str) -> None:
    """Also one that no calendar of Python has."""
    result = CliRunner().invoke(kvmwhy, ["triage", written(tmp_path / "r.jsonl", rows), "--since", text])
    assert result.exit_code == 2
    assert f"Error: --since {text}: neither a date" in result.output


@pytest.mark.parametrize("text", ["7d", " 36h", "30m", "2026-03-05", "2026-03-05T12:00", "2026-03-05T12:00:00+02:00"])
def test_a_time_may_be_said_in_many_ways(text: str) -> None:
    """All are in UTC."""
    made = since_when(text)
    assert made is not None
    assert made.utcoffset() == timedelta(0)


def test_no_failure_is_one_sentence(tmp_path: Path) -> None:
    """On stderr, with exit status 1; the page is still written, and says so."""
    path = written(tmp_path / "r.jsonl", [])
    result = CliRunner().invoke(kvmwhy, ["triage", path, "--html", str(tmp_path / "t.html")])
    assert (result.exit_code, result.output) == (1, "kvmwhy: there is no failure in these records\n")
    assert "There is no failure in these records." in (tmp_path / "t.html").read_text()


@pytest.mark.parametrize("named", [True, False])
def test_hosts_that_no_log_names_are_called_files(tmp_path: Path, *, named: bool) -> None:
    """What stands out, and how many: of hosts where there are any, else of files."""
    rows = [
        Row(path=f"{n}.log", offset=0, host=f"h{n}" if named else None, signature=f"v2 s{n % 2}", microcode=microcode)
        for n, microcode in enumerate(("0x1", "0x2") * 10)
    ]
    said = to_plain(overview(triage([written(tmp_path / "r.jsonl", rows)])), 200)
    there, absent = ("hosts", "files") if named else ("files", "hosts")
    assert f"microcode 0x1: 100% of its {there} have it, 50% of all {there}" in said
    assert f"of its {absent}" not in said


def hosts(count: int, signature: str, first: int = 0, **fields: Any) -> list[Row]:
    return [
        Row(path=f"{n}.log", offset=0, host=f"h{n}", signature=f"v2 {signature}", **fields)
        for n in range(first, first + count)
    ]


def test_what_the_inventory_does_not_know_sets_no_group_apart(tmp_path: Path) -> None:
    """300 hosts, 105 with failures: QEMU's version is known of those alone, so that it says nothing about them."""
    inventory = tmp_path / "hosts.csv"
    inventory.write_text("host,rack\n" + "".join(f"h{n},r{n % 10}\n" for n in range(300)))
    rows = hosts(70, "a", qemu="8.2.2") + hosts(35, "b", first=70, qemu="8.2.2")
    groups = triage([written(tmp_path / "r.jsonl", rows)], inventory=str(inventory)).groups
    assert [group.outliers for group in groups] == [(), ()]


def test_the_vendor_read_off_a_failure_sets_nothing_apart(tmp_path: Path) -> None:
    """A group of VMX failures is on VMX hosts by its own words; what an inventory says of all hosts does count."""
    rows = hosts(20, "a", vendor="vmx") + hosts(20, "b", first=20, vendor="svm")
    path = written(tmp_path / "r.jsonl", rows)
    assert not any(group.outliers for group in triage([path]).groups)
    inventory = tmp_path / "hosts.csv"
    inventory.write_text("host,vendor\n" + "".join(f"h{n},{'vmx' if n < 20 else 'svm'}\n" for n in range(100)))
    (first, *_) = triage([path], inventory=str(inventory)).groups
    assert [(outlier.dimension, outlier.value) for outlier in first.outliers] == [("vendor", "vmx")]


def test_a_group_of_two_hosts_has_nothing_that_stands_out(tmp_path: Path) -> None:
    """Two of two have a kernel that 27 of 100 have: chance does that once in fourteen times."""
    rows = hosts(2, "a", kernel="6.8.0-45") + hosts(25, "b", first=2, kernel="6.8.0-45")
    rows += hosts(73, "c", first=27, kernel="6.5.0")
    found = triage([written(tmp_path / "r.jsonl", rows)])
    outliers = {group.signature: group.outliers for group in found.groups}
    assert outliers["v2 a"] == ()
    (outlier,) = outliers["v2 b"]
    assert (outlier.known, outlier.world, outlier.share) == (25, 100, 1.0)


@pytest.mark.parametrize(
    ("hits", "drawn", "marked", "world"), [(2, 2, 27, 100), (5, 9, 20, 60), (0, 3, 4, 9), (3, 5, 5, 5)]
)
def test_chance_is_counted_as_by_hand(hits: int, drawn: int, marked: int, world: int) -> None:
    """The tail of the hypergeometric distribution, by whole numbers."""
    ways = sum(comb(marked, n) * comb(world - marked, drawn - n) for n in range(hits, drawn + 1))
    assert at_random(hits, drawn, marked, world) == pytest.approx(ways / comb(world, drawn))


def test_random_times_have_no_trend(tmp_path: Path) -> None:
    """Failures at random over twenty days, some thousands from one host at once: in none of fifty groups a trend."""
    rng = random.Random(7)
    rows = []
    for group in range(50):
        for n in range(200):
            time = START + timedelta(minutes=rng.randrange(60 * 24 * 20))
            count = 5000 if rng.random() < 0.02 else 1
            host = f"h{rng.randrange(100)}"
            rows.append(Row(path=host, offset=n, host=host, time=time, count=count, signature=f"v2 g{group}"))
    groups = triage([written(tmp_path / "r.jsonl", rows)], top=50).groups
    assert {direction(group.spread) for group in groups} == {"no clear trend"}


def test_hosts_are_named(tmp_path: Path) -> None:
    """Those with most failures first, at most fifty; the page says how many there are, and who made it when."""
    rows = [replace(one, count=n + 1) for n, one in enumerate(hosts(60, "a"))]
    found = triage([written(tmp_path / "r.jsonl", rows)])
    (group,) = found.groups
    assert group.named[0] == ("h59", 60)
    assert len(group.named) == 50
    text = page(found, made=START, pages={1: "x-1.html"})
    assert "60 hosts, the 50 with most failures" in text
    assert f"kvmwhy {__version__} triage, 2026-03-01 00:30 UTC" in text
    assert '<a href="x-1.html">The page of this failure</a>' in text
