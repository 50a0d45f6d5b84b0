"""Millions of rows to a short list: groups by signature, what they have in common, and what sets them apart.

All questions go to one DuckDB session with the rolled-up rows; only the groups that are shown come into Python.
"""

# ruff: noqa: S608 -- columns are those of a row or quoted; values are bound
from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import exp, lgamma
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kvmwhy.fleet.duckdb_load import DIMENSIONS, check_version, columns_of, files_of, load, load_inventory, open_session
from kvmwhy.fleet.signature import NEWEST
from kvmwhy.fleet.store import StoreError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_LEAST_HOSTS: Final = 5  # of a group of which something is said to stand out
_CHANCE: Final = 0.001  # a value that so few groups drawn at random would have is no accident
_MOST_NAMED: Final = 50
_SHARE: Final = 0.6  # a value that holds for less of a group is not worth a word
_LIFT: Final = 1.5  # nor is one that is nearly as common elsewhere
_TREND: Final = 40  # points
_HOUR: Final = 3600.0
_SAID: Final = ("why", "cause", "family", "confidence")
_OF_ONE: Final = ("answer", "advice")  # of the example
_OF_ROWS: Final = tuple(name for name in DIMENSIONS if name != "vendor")
_UNNAMED: Final = "count(DISTINCT path) FILTER (host IS NULL)"
_WHO: Final = "coalesce(host, path)"  # rows without a host count as their file


class Outlier(msgspec.Struct, frozen=True):
    """Of the group's hosts ``share`` have this value, of all hosts ``overall``; of those that have it, ``hit`` are in
    the group. Only hosts count of which the value is known: ``known`` of the group, ``world`` of all. ``chance`` is how
    likely as many would have it in a group drawn at random.
    """

    dimension: str
    value: str
    share: float
    overall: float
    hit: float
    known: int = 0
    world: int = 0
    chance: float = 0.0


class Group(msgspec.Struct, frozen=True):
    """Failures with one signature. ``trend`` counts them in equal steps of time, from the triage's ``start`` on.

    ``spread`` counts hosts, or files where no host is named, in the same steps: one host's storm weighs as much as one
    failure. ``named`` are the hosts with the most failures, and how many each.

    ``hosts`` counts hosts by name, ``files`` the inputs, ``unnamed`` those of them with failures of a host that no log
    names; ``by`` has (column, value, count), the most frequent first; ``example`` is the path of one, whose answer is
    ``answer``, and ``advice`` what it says to whoever runs the host.
    """

    signature: str
    why: str
    cause: str
    family: str
    confidence: str
    answer: str
    advice: str
    count: int
    hosts: int
    files: int
    unnamed: int
    first: datetime | None
    last: datetime | None
    trend: tuple[int, ...]
    outliers: tuple[Outlier, ...]
    by: tuple[tuple[str, str, int], ...]
    example: str
    spread: tuple[int, ...] = ()
    named: tuple[tuple[str, int], ...] = ()


class Triage(msgspec.Struct, frozen=True):
    """``left_out`` groups were not asked for; ``population`` counts all hosts; ``step`` is the trends', in seconds, and
    of whole hours.

    Groups are made by signatures of ``signature_version``; ``unsigned`` failures have none of it, and are grouped by
    the one that they have.
    """

    groups: tuple[Group, ...]
    count: int
    hosts: int
    files: int
    unnamed: int
    population: int
    left_out: int
    start: datetime | None
    end: datetime | None
    step: float
    signature_version: int = NEWEST
    unsigned: int = 0


def triage(
    paths: Sequence[str],
    *,
    since: datetime | None = None,
    by: Sequence[str] = (),
    top: int = 20,
    version: int = NEWEST,
    inventory: str | None = None,
    tables: Iterable[pa.Table] | None = None,
    threads: int | None = None,
    memory: str | None = None,
) -> Triage:
    """The ``top`` groups of the rows in ``paths``, those on most hosts first.

    ``version`` is that of the signature that groups are made by. ``tables`` are the same rows rolled up elsewhere, by
    the same. Raises StoreError for what is no table of rows, for a column that rows do not have, and for a version
    that never was.
    """
    check_version(version)
    session = open_session(threads=threads, memory=memory)
    import duckdb

    columns_of(by)
    with session:
        load(session, files_of(paths), by=by, since=since, version=version, tables=tables)
        extra = load_inventory(session, inventory)
        try:
            return _Asked(session, extra, version).answer(by, top)
        except duckdb.Error as error:  # no memory, no disk
            raise StoreError(f"DuckDB cannot answer: {str(error).splitlines()[0][:300]}") from None


def at_random(hits: int, drawn: int, marked: int, world: int) -> float:
    """How likely ``drawn`` of ``world``, of which ``marked`` have something, are so many that have it, or more.

    >>> at_random(2, 2, 27, 100) < 0.08
    True
    """
    most = min(drawn, marked)
    ways = [
        _ways(marked, n) + _ways(world - marked, drawn - n) - _ways(world, drawn)
        for n in range(max(hits, drawn + marked - world), most + 1)
    ]
    return min(1.0, sum(map(exp, ways)))


def _ways(total: int, chosen: int) -> float:
    """The logarithm of the number of ways to choose."""
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _step(start: datetime | None, end: datetime | None) -> float:
    """Whole hours, since rows are rolled up by the hour, so that at most _TREND of them reach from start to end."""
    if start is None or end is None:
        return 0.0
    hours = _hour(end) - _hour(start) + 1
    return _HOUR * max(1, -(-hours // _TREND))


def _hour(when: datetime) -> int:
    return int(when.replace(tzinfo=UTC).timestamp() // _HOUR)


class _Asked:
    """The queries over the table ``rows``, and the inventory."""

    def __init__(self, session: duckdb.DuckDBPyConnection, inventory: list[str], version: int) -> None:
        self.session = session
        self.inventory = inventory
        self.version = version

    def ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return self.session.execute(query, values).fetchall()

    def answer(self, by: Sequence[str], top: int) -> Triage:
        self._sets()
        count, hosts, files, unnamed, start, end, groups, unsigned = self.ask(
            "SELECT coalesce(sum(count), 0), count(DISTINCT host), count(DISTINCT path),"
            f" {_UNNAMED}, min(time), max(last_time), count(DISTINCT signature),"
            " coalesce(sum(count) FILTER (NOT starts_with(signature, $mark)), 0) FROM sets",
            mark=f"v{self.version} ",
        )[0]
        ((population,),) = self.ask("SELECT count(*) FROM people")
        largest = self.ask(
            "SELECT signature, sum(count), count(DISTINCT host), count(DISTINCT path),"
            f" {_UNNAMED}, min(time), max(last_time), min(path) FROM sets GROUP BY signature"
            f" ORDER BY count(DISTINCT {_WHO}) DESC, sum(count) DESC, signature LIMIT $top",
            top=top,
        )
        keys = [row[0] for row in largest]
        step = _step(start, end)
        words = self._said({row[0]: row[-1] for row in largest})
        trends, spread = self._trends(keys, start, end, step)
        named = self._named(keys)
        outliers = self._outliers(keys)
        parts = self._by(keys, by)
        new = tuple(
            Group(
                signature=key,
                **dict(zip((*_SAID, *_OF_ONE), words[key], strict=True)),
                count=int(n),
                hosts=on,
                files=inputs,
                unnamed=bare,
                first=_utc(first),
                last=_utc(last),
                trend=trends.get(key, ()),
                spread=spread.get(key, ()),
                named=tuple(named.get(key, ())),
                outliers=tuple(outliers.get(key, ())),
                by=tuple(parts.get(key, ())),
                example=example,
            )
            for key, n, on, inputs, bare, first, last, example in largest
        )
        return Triage(
            new,
            int(count),
            hosts,
            files,
            unnamed,
            population,
            groups - len(new),
            _utc(start),
            _utc(end),
            step,
            self.version,
            int(unsigned),
        )

    def _said(self, examples: dict[str, str]) -> dict[str, tuple[str, ...]]:
        """What is the same in all rows of a group, or as good as: asked once for a group, and not for each host. The
        answer, in which addresses are, is that of the example.
        """
        wanted = ", ".join(f"min({name})" for name in _SAID)
        of_one = ", ".join(f"coalesce(min({name}) FILTER (rows.path = chosen.path), '')" for name in _OF_ONE)
        rows = self.ask(
            f"SELECT signature, {wanted}, {of_one} FROM rows JOIN (SELECT"
            " unnest($keys) AS signature, unnest($paths) AS path) AS chosen USING (signature) GROUP BY signature",
            keys=list(examples),
            paths=list(examples.values()),
        )
        return {key: tuple(values) for key, *values in rows}

    def _trends(
        self, keys: list[str], start: datetime | None, end: datetime | None, step: float
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """Failures, and hosts, by whole hours, which rolling up keeps; no further than to the end."""
        if start is None or end is None:
            return {}, {}
        first, points = _hour(start), int((_hour(end) - _hour(start)) * _HOUR // step) + 1
        counted = self.ask(
            "SELECT signature, CAST(floor((epoch(date_trunc('hour', time)) - $start) / $step) AS INTEGER) AS point,"
            f" sum(count), count(DISTINCT {_WHO}) FROM rows"
            " WHERE time IS NOT NULL AND list_contains($keys, signature) GROUP BY 1, 2",
            start=first * _HOUR,
            step=step,
            keys=keys,
        )
        failures = {key: [0] * points for key in keys}
        hosts = {key: [0] * points for key in keys}
        for key, at, n, on in counted:
            failures[key][at] += int(n)
            hosts[key][at] += on
        return {key: tuple(n) for key, n in failures.items()}, {key: tuple(n) for key, n in hosts.items()}

    def _named(self, keys: list[str]) -> dict[str, list[tuple[str, int]]]:
        """The hosts of each group, those with most failures first."""
        out: dict[str, list[tuple[str, int]]] = {}
        for key, host, n in self.ask(
            "SELECT signature, host, sum(count) AS n FROM sets"
            " WHERE host IS NOT NULL AND list_contains($keys, signature)"
            f" GROUP BY 1, 2 QUALIFY row_number() OVER (PARTITION BY signature ORDER BY sum(count) DESC, host)"
            f" <= {_MOST_NAMED} ORDER BY 1, 3 DESC, 2",
            keys=keys,
        ):
            out.setdefault(key, []).append((host, int(n)))
        return out

    def _sets(self) -> None:
        """What each host has of each group, without times; and every host once, failed or not."""
        names = ", ".join(f'"{name}"' for name in ("signature", "host", "path", *DIMENSIONS))
        self.session.execute(
            f"CREATE OR REPLACE TEMP TABLE sets AS SELECT {names}, sum(count) AS count, min(time) AS time,"
            f" max(last_time) AS last_time FROM rows GROUP BY {names}"
        )
        self.session.execute(
            f"CREATE OR REPLACE TEMP TABLE people AS SELECT DISTINCT {_WHO} AS who FROM sets"
            " UNION SELECT host FROM inventory WHERE host IS NOT NULL"
        )

    def _outliers(self, keys: list[str]) -> dict[str, list[Outlier]]:
        """A host counts once, however often it failed, and only where the value is known of it.

        What a row says of the vendor was read off the failure itself; only an inventory can set a group apart by it.
        """
        out: dict[str, list[Outlier]] = {}
        if not keys:
            return out
        asked = [name for name in DIMENSIONS if name != "vendor" or name in self.inventory]
        for name in dict.fromkeys((*asked, *self.inventory)):
            column = '"' + name.replace('"', '""') + '"'
            listed = f"SELECT host AS who, CAST({column} AS VARCHAR) AS value FROM inventory WHERE {column} IS NOT NULL"
            seen = f"SELECT {_WHO} AS who, CAST({column} AS VARCHAR) AS value FROM sets WHERE {column} IS NOT NULL"
            known = " UNION ".join(
                part for part, there in ((seen, name in _OF_ROWS), (listed, name in self.inventory)) if there
            )
            own = f"coalesce(r.{column}, k.value)" if name in _OF_ROWS else "k.value"
            for key, value, share, overall, hit, n, size, every, world in self.ask(
                f"WITH known AS MATERIALIZED ({known}),"
                " listed AS (SELECT who, min(value) AS value FROM known GROUP BY who),"
                f" mine AS (SELECT DISTINCT r.signature, coalesce(r.host, r.path) AS who, {own} AS value FROM sets r"
                "  LEFT JOIN listed k ON k.who = coalesce(r.host, r.path) WHERE list_contains($keys, r.signature)),"
                " size AS (SELECT signature, count(DISTINCT who) AS n FROM mine WHERE value IS NOT NULL GROUP BY 1),"
                " part AS (SELECT signature, value, count(DISTINCT who) AS n FROM mine"
                "  WHERE value IS NOT NULL GROUP BY 1, 2),"
                " every AS (SELECT value, count(DISTINCT who) AS n FROM known GROUP BY 1),"
                " world AS (SELECT count(DISTINCT who) AS n FROM known)"
                " SELECT part.signature, part.value, part.n / size.n, every.n / world.n, part.n / every.n,"
                "  part.n, size.n, every.n, world.n"
                " FROM part JOIN size USING (signature) JOIN every USING (value), world"
                " WHERE size.n >= $least AND part.n / size.n >= $share AND part.n / size.n >= $lift * every.n / world.n"
                " ORDER BY 1, 3 DESC, 2",
                keys=keys,
                share=_SHARE,
                lift=_LIFT,
                least=_LEAST_HOSTS,
            ):
                if (chance := at_random(n, size, every, world)) <= _CHANCE:
                    outlier = Outlier(name, value, share, overall, min(1.0, hit), size, world, chance)
                    out.setdefault(key, []).append(outlier)
        for outliers in out.values():
            outliers.sort(key=lambda o: (-o.share, o.overall, o.dimension))
        return out

    def _by(self, keys: list[str], by: Sequence[str]) -> dict[str, list[tuple[str, str, int]]]:
        out: dict[str, list[tuple[str, str, int]]] = {}
        for name in by:
            for key, value, n in self.ask(
                f"SELECT signature, coalesce(CAST(\"{name}\" AS VARCHAR), '(not known)') AS value, sum(count) AS n"
                " FROM rows WHERE list_contains($keys, signature) GROUP BY 1, 2"
                " QUALIFY row_number() OVER (PARTITION BY signature ORDER BY sum(count) DESC, value) <= 10"
                " ORDER BY 1, 3 DESC, 2",
                keys=keys,
            ):
                out.setdefault(key, []).append((name, value, int(n)))
        return out
