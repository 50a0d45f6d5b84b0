"""Clean reports torn in every way that logs are: what was not touched still comes out, and right.

Single manglings are in ``test_mangled``, journals in ``test_streams``, lines of two vCPUs in ``test_interleaved``;
here one thing comes upon the other, and lines are cut inside.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, internal_errors, reports
from ingest.test_demux import WITH_WRITER, wrapped
from ingest.test_mangled import MANGLES
from kvmwhy.pipeline import records
from kvmwhy.readers import read
from kvmwhy.record import Failure, Host, Source
from readers.test_interleaved import is_of


def said(data: bytes) -> list[Failure]:
    bare = {"source": Source(), "seen_at": {}, "repairs": (), "host": Host()}
    return [msgspec.structs.replace(f, **bare) for f in read(data).failures]


def never_wrong(found: list[Failure], *printed: Printed) -> None:
    """Whatever is said is one report's, or marked as perhaps another's."""
    for failure in found:
        assert any(is_of(with_whole_code(failure, report), report) for report in printed), failure


def with_whole_code(failure: Failure, report: Printed) -> Failure:
    """Bytes that are the beginning of the report's are right, if not all."""
    code, known = failure.code, report.failure.code
    if not (code and known and code.window == known.window[: len(code.window)] and code.rip_at in {None, known.rip_at}):
        return failure
    return msgspec.structs.replace(failure, code=known)


@settings(max_examples=60, deadline=None)
@given(reports(), reports(), st.data())
def test_another_vcpus_lines_inside_a_line(first: Printed, second: Printed, data: st.DataObject) -> None:
    """Another vCPU's whole announcement comes between any two characters of this one's registers."""
    at = data.draw(st.integers(len(first.head), len(first.text)))
    never_wrong(said((first.text[:at] + second.head + first.text[at:]).encode()), first, second)


@pytest.mark.parametrize("name", ["CR2", "CR3", "DR0", "DR7"])
def test_half_of_a_number_of_a_wide_dump_is_none(name: str) -> None:
    """QEMU prints these with eight digits of a narrow guest, and always with sixteen of a wide one (target/i386)."""
    text = f"KVM: unknown exit reason 100\nRAX={1:016x} RBX={2:016x}\n{name}=ffffffffKVM: exception 1 exit\n"
    assert [f.cpu.registers for f in read(text.encode()).failures if f.cpu] == [{"rax": 1, "rbx": 2}]


@settings(max_examples=60, deadline=None)
@given(reports(), st.data())
def test_any_part_of_a_report(report: Printed, data: st.DataObject) -> None:
    """Begun late, ended early, or with a piece out of the middle: the rest is as it was."""
    text = report.text
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    for torn in (text[start:end], text[:start] + text[end:]):
        for failure in said(torn.encode()):
            known = report.failure.cpu
            assert known
            wrong = {} if failure.cpu is None else failure.cpu.registers.items() - known.registers.items()
            joined = re.findall(r"\w+", text[max(0, start - 20) : start])[-1:] if torn != text[start:end] else []
            assert len(dict(wrong)) <= bool(joined), (wrong, torn)


@settings(max_examples=60, deadline=None)
@given(reports(), st.data())
def test_lost_lines(report: Printed, data: st.DataObject) -> None:
    """Rate limits drop whole lines of a dump: what is left is right, and what is missing is named."""
    lines = report.text.splitlines(keepends=True)
    lost = data.draw(st.sets(st.integers(report.head.count("\n"), len(lines) - 1), max_size=5))
    found = said("".join(line for n, line in enumerate(lines) if n not in lost).encode())
    never_wrong(found, report)
    if lost and found:
        assert any(f.damage for f in found)


@pytest.mark.parametrize("outer", ["quoted", "CRLF", "UTF-16", "markdown", "no-break spaces"])
@pytest.mark.parametrize("inner", ["syslog", "rsyslog", "kata", "journald JSON", "kubectl --prefix"])
@settings(max_examples=5, deadline=None)
@given(reports(), reports())
def test_two_vms_of_a_journal_in_a_mail(outer: str, inner: str, first: Printed, second: Printed) -> None:
    """Two VMs' lines in turn, wrapped by a collector, then mangled by what carried them here."""
    wrap = WITH_WRITER[inner]
    mine, theirs = first.text.splitlines(), second.text.splitlines()
    text = "".join(wrap(a, 1) + wrap(b, 2) for a, b in zip(mine, theirs, strict=False))
    text += "".join(wrap(a, 1) for a in mine[len(theirs) :]) + "".join(wrap(b, 2) for b in theirs[len(mine) :])
    assert said(MANGLES[outer](text)) == [first.failure, second.failure]


@pytest.mark.parametrize(
    "first", ["quoted", "quoted-printable", "HTML entities", "journald", "bbcode list", "indented"]
)
@pytest.mark.parametrize("second", ["quoted twice", "printk", "logfmt", "colour", "markdown"])
@settings(max_examples=4, deadline=None)
@given(reports(), reports())
def test_two_reports_of_different_makes(first: str, second: str, one: Printed, two: Printed) -> None:
    """A thread's mails are joined to one file."""
    data = MANGLES[first](one.text) + b"\n-- \nOn Friday somebody wrote:\n\n" + MANGLES[second](two.text)
    assert said(data) == [one.failure, two.failure]


@settings(max_examples=30, deadline=None)
@given(reports(internal_errors()), st.data())
def test_code_cut_or_unreadable(report: Printed, data: st.DataObject) -> None:
    """The bytes that are there keep their places; everything before is untouched."""
    start = report.text.index("Code=") + 5
    at = data.draw(st.integers(start, len(report.text) - 1))
    (failure,) = said(report.text[:at].encode())
    known = report.failure
    assert known.code
    assert failure.cpu == known.cpu
    assert failure.data == known.data
    if failure.code:
        whole = len(report.text[start:at].split()) - 1
        assert failure.code.window[:whole] == known.code.window[:whole]


@settings(max_examples=30, deadline=None)
@given(reports(), st.integers(20, 200))
def test_quoted_printable_breaks_inside_a_byte(report: Printed, width: int) -> None:
    """Soft breaks at a width, wherever that falls, but inside an escape."""
    encoded = quopri.encodestring(report.text.encode()).decode().replace("=\n", "")
    out = []
    for line in encoded.splitlines():
        rest = line
        while len(rest) > width:
            at = (
                width - 2
                if rest[width - 2 : width - 1] == "="
                else width - 1
                if rest[width - 1 : width] == "="
                else width
            )
            out.append(rest[:at] + "=")
            rest = rest[at:]
        out.append(rest)
    if "=3D" in encoded:
        assert said("\n".join([*out, ""]).encode()) == [report.failure]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_beyond_one_window(encoding: str) -> None:
    """Five megabytes of an editor's UTF-16 with one failure in them, on its line."""
    filler = "all is well\n" * 200_000
    data = (filler + "KVM: entry failed, hardware error 0x7\n" + filler).encode(encoding)
    chunks = (data[at : at + 65_537] for at in range(0, len(data), 65_537))
    (failure,) = [record.failure for record in records(chunks)]
    assert (failure.hardware_error, failure.source.line) == (7, 200_001)


@settings(max_examples=20, deadline=None)
@given(reports(internal_errors()), st.integers(2, 40))
def test_the_same_failure_again_and_again(report: Printed, count: int) -> None:
    """Each is there, and all are equal, so that they can be counted."""
    assert said((report.text * count).encode()) == [report.failure] * count


def glued(banner: str) -> Callable[[str], str]:
    return lambda line: line.rstrip("\n") + banner


@settings(max_examples=40, deadline=None)
@given(reports(internal_errors()), reports(), st.data())
def test_a_banner_glued_to_any_line(first: Printed, second: Printed, data: st.DataObject) -> None:
    """stderr of two threads: the end of a line is lost, and another's banner stands there."""
    lines = first.text.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    text = "".join(lines[:at]) + glued(second.head)(lines[at]) + "".join(lines[at + 1 :]) + second.dump
    never_wrong(said(text.encode()), first, second)


@settings(max_examples=20, deadline=None)
@given(reports(), st.data())
def test_a_torn_journal(report: Printed, data: st.DataObject) -> None:
    """A file that is cut anywhere, even inside a record of the collector."""
    wrap = data.draw(st.sampled_from(sorted(WITH_WRITER)))
    text = wrapped(WITH_WRITER[wrap], report.text).encode()
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    never_wrong(said(text[start:end]), report)
