"""``kvmwhy timeline``: genuine traces in each of their forms, records of a watch, and what is no trace."""

from __future__ import annotations

import gzip
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvmwhy.cli.main import kvmwhy
from kvmwhy.cli.timeline import _Job
from kvmwhy.readers.trace import ftrace
from timelines import BEGIN, Parsed

FIXTURES = Path(__file__).parents[1] / "fixtures" / "trace"
RELEASES = sorted(path.name for path in FIXTURES.iterdir())
FORMS = ("v6.dat", "v7-none.dat", "v7-zstd.dat", "plain.txt", "latency.txt", "perf.txt", "report.txt", "report-raw.txt")
NEWEST = FIXTURES / RELEASES[-1]


def run(path: Path | str, out: Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(kvmwhy, ["timeline", str(path), "--out", str(out)], input=stdin)


def unpacked(tmp_path: Path, release: str, form: str) -> Path:
    path = tmp_path / form
    path.write_bytes(gzip.decompress((FIXTURES / release / f"{form}.gz").read_bytes()))
    return path


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("form", FORMS)
def test_a_genuine_trace(release: str, form: str, tmp_path: Path) -> None:
    """A guest slice for each kvm_entry and a host slice for each kvm_exit of the text; the failures of ``explain``."""
    path, out = unpacked(tmp_path, release, form), tmp_path / "out"
    made = run(path, out)
    assert made.exit_code == 0, made.stderr
    parsed = Parsed(out.read_bytes()).held()
    begun = Counter(event.category for event in parsed.events if event.type == BEGIN)
    if form.endswith(".txt"):
        text = path.read_text()
        assert begun["guest"] == text.count("kvm_entry:")
        assert begun["host"] == text.count("kvm_exit:")
    assert begun["guest"] > 50
    explained = CliRunner().invoke(kvmwhy, ["explain", "--json", str(path)]).stdout
    answers = {event.said["answer"] for event in parsed.events if event.category == "failure"}
    assert len(answers) >= 3
    assert all(f'"answer":"{answer}' in explained for answer in answers if '"' not in answer)


def test_two_forms_of_one_recording_are_one_picture(tmp_path: Path) -> None:
    """trace.dat, and what trace-cmd reports of it: the same slices on as many lanes, times to the microsecond."""
    pictures = []
    for form in ("v7-zstd.dat", "report.txt"):
        out = tmp_path / "out"
        run(unpacked(tmp_path, RELEASES[-1], form), out)
        parsed = Parsed(out.read_bytes()).held()
        pictures.append(parsed.events)
    drawn = [[(event.type, event.name) for event in picture if event.category != "failure"] for picture in pictures]
    assert drawn[0] == drawn[1]
    assert all(abs(a.ns - b.ns) <= 1000 for a, b in zip(*pictures, strict=True))


def test_pipes_and_archives(tmp_path: Path) -> None:
    """The same bytes behind gzip and on standard input give the same events."""
    path = unpacked(tmp_path, RELEASES[-1], "v6.dat")
    outs = [tmp_path / name for name in ("a", "b", "c")]
    assert run(path, outs[0]).exit_code == 0
    assert run(NEWEST / "v6.dat.gz", outs[1]).exit_code == 0
    assert run("-", outs[2], path.read_bytes()).exit_code == 0
    counts = {len(Parsed(out.read_bytes()).held().events) for out in outs}
    assert len(counts) == 1


def test_records_of_a_watch(tmp_path: Path) -> None:
    """Each failure of JSON lines with the events before it; what two records share is drawn once."""
    records = tmp_path / "failures.jsonl"
    trace = unpacked(tmp_path, RELEASES[-1], "plain.txt")
    lines = CliRunner().invoke(kvmwhy, ["explain", "--json", str(trace)]).stdout_bytes
    records.write_bytes(lines + lines)
    made = run(records, tmp_path / "out")
    assert made.exit_code == 0, made.stderr
    parsed = Parsed((tmp_path / "out").read_bytes()).held()
    count = lines.count(b"\n")
    assert sum(event.category == "failure" for event in parsed.events) in {2 * count, 4 * count}
    drawn = [(event.track, event.ns, event.name) for event in parsed.events if event.category == "guest"]
    assert drawn
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b"nothing of a trace\n" * 100, b"{}", b"\x17\x08\x44tracing6\0"]
)
def test_what_is_no_trace_leaves_no_file(content: bytes, tmp_path: Path) -> None:
    """One sentence, status 1, and nothing at --out."""
    path = tmp_path / "in"
    path.write_bytes(content)
    made = run(path, tmp_path / "out")
    assert made.exit_code == 1, made.output
    assert "no events" in made.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    """Named in one sentence, with status 2."""
    missing = run(tmp_path / "no", tmp_path / "out")
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    trace = unpacked(tmp_path, RELEASES[0], "plain.txt")
    nowhere = run(trace, tmp_path / "no" / "out")
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("form", ["v6.dat", "v7-zstd.dat", "plain.txt", "report.txt"])
def test_damaged_traces(form: str, tmp_path: Path) -> None:
    """Bytes changed, cut out and repeated: whatever is written parses, nests, and never runs back."""
    chance = random.Random(form)  # noqa: S311 -- repeatable
    data = gzip.decompress((NEWEST / f"{form}.gz").read_bytes())
    for _ in range(8):
        torn = bytearray(data)
        for _ in range(chance.randrange(1, 20)):
            at = chance.randrange(len(torn))
            torn[at : at + chance.randrange(8)] = chance.randbytes(chance.randrange(8))
        (tmp_path / "in").write_bytes(torn[: chance.randrange(len(torn))])
        out = tmp_path / "out"
        out.unlink(missing_ok=True)
        made = run(tmp_path / "in", out)
        assert made.exit_code in {0, 1, 4}, made.output
        assert made.exception is None or isinstance(made.exception, SystemExit)
        if out.exists():
            Parsed(out.read_bytes()).held()


def _long_trace(lines: int) -> Iterator[bytes]:
    for n in range(lines):
        name = (
            "kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x1 info1 0x181 info2 0x0"
            if n % 2
            else "kvm_entry: vcpu 0, rip 0x1"
        )
        yield b" CPU 0/KVM-7 [001] d... %d.%06d: %s\n" % (n // 1000, n % 1000, name.encode())


def test_memory_does_not_grow_with_the_trace() -> None:
    """Eight times as long: what is held is a piece of it."""
    peaks = []
    for lines in (1_000, 6_000):
        job = _Job("made")
        tracemalloc.start()
        written = sum(map(len, job._blocks_of(job._events(ftrace.every_event(_long_trace(lines)), ""))))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert written > lines * 20
    assert peaks[1] < peaks[0] * 1.5 + 1_000_000
