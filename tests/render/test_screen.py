"""One screen is one screen, whatever the failure; the bar and the code show what the record says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, reports
from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.record import Failure
from kvmwhy.render.address_bar import address_bar, drawn
from kvmwhy.render.code_pane import code_rows
from kvmwhy.render.page import to_plain
from kvmwhy.render.screen import ROWS, brief, screen, table

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOGS = sorted(FIXTURES.rglob("qemu.log"))[::7]


def shown(failure: Failure) -> list[str]:
    return to_plain(screen(diagnose(failure)), 80).splitlines()


@pytest.mark.parametrize("log", LOGS, ids=lambda path: str(path.parent.relative_to(FIXTURES)))
def test_a_genuine_failure_fits(log: Path) -> None:
    """At most as many rows of 80 columns as a terminal has, the answer first, the commands last."""
    for failure in read(log.read_bytes(), path=str(log)).failures:
        rows = shown(failure)
        assert len(rows) <= ROWS
        assert max(map(len, rows)) <= 80 or any(len(word) > 60 for word in rows)
        assert rows[0][:20] == diagnose(failure).answer[:20]
        assert any(row.startswith("  more ") for row in rows[-2:])


@settings(max_examples=40, deadline=None)
@given(reports())
def test_any_report_fits(report: Printed) -> None:
    """Whatever numbers QEMU prints; one line is one line."""
    for failure in read(report.text.encode()).failures:
        assert len(shown(failure)) <= ROWS
        assert len(to_plain(brief(diagnose(failure)), 80).splitlines()) == 1
        assert len(table([(diagnose(failure), ())])) == 2


@given(st.integers(0, (1 << 52) - 1), st.one_of(st.none(), st.integers(1 << 20, 1 << 40)))
def test_the_mark_is_in_the_segment_of_its_address(gpa: int, ram: int | None) -> None:
    """The segments follow each other without a gap, and the mark stands where the address is."""
    bar = address_bar(gpa, ram_bytes=ram)
    assert bar is not None
    assert all(a.end == b.start for a, b in zip(bar.segments, bar.segments[1:], strict=False))
    column = 0
    for segment in bar.segments:
        if column <= bar.marker < column + segment.width:
            assert segment.start <= gpa < segment.end
        column += segment.width
    ruler, ink, mark = drawn(bar)
    assert len(ink) == column + 1
    assert len(mark) == bar.marker + 1
    assert ruler.startswith("0")


def test_what_is_ram_and_what_is_not() -> None:
    """A VM of 1 GiB: RAM to 1 GiB, and the firmware's window at the top is none (hw/i386/pc.c)."""
    bar = address_bar(0xD000_0000, ram_bytes=1 << 30)
    assert bar is not None
    kinds = {segment.start: segment.kind for segment in bar.segments}
    assert (kinds[1 << 20], kinds[1 << 30], kinds[0xFEC0_0000]) == ("ram", "device", "device")


def test_neighbours_are_those_of_the_dump() -> None:
    """mov al,1; mov dx,0x505 follow in the guest that made the log; xsetbv and mov precede (tests/guests)."""
    log = FIXTURES / "lab-svm" / "qemu-6.1" / "long64-vmovdqu" / "qemu.log"
    (failure,) = read(log.read_bytes()).failures
    rows = code_rows(diagnose(failure).facts)
    assert [row.text for row in rows if row.at_rip] == ["vmovdqu ymm0,[rbx]"]
    assert [row.text for row in rows][1:] == ["mov ebx,0xd0000000", "vmovdqu ymm0,[rbx]", "mov al,1", "mov dx,0x505"]
    addresses = [row.address for row in rows if row.address is not None]
    assert addresses == sorted(addresses)
    assert len(addresses) == len(rows)
