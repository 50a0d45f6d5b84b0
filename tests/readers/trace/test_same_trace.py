"""One recording in several forms gives the same failures, field by field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kvmwhy.readers.trace import trace_dat
from kvmwhy.record import Event, Failure, Source
from readers.trace.samples import COLUMNS, DATS, RELEASES, from_pages, from_text, load, text_of


def plain(failure: Failure) -> Failure:
    """Without what only one form has: the place in a text, and the sixth digit of a time."""
    trace = tuple(Event(name=event.name, fields=known(event)) for event in failure.trace)
    source = Source(vcpu=failure.source.vcpu, count=failure.source.count)
    return msgspec.structs.replace(failure, source=source, trace=trace)


def known(event: Event) -> dict[str, Any]:
    """Fields that the kernel prints, and is able to: of kvm_exit it prints ``isa`` by the spelling alone."""
    fields = dict(event.fields)
    if "text" in fields:
        return {}
    for unprinted in ("isa", "used_max_basic"):
        fields.pop(unprinted, None)
    if not fields.get("immediate_exit"):
        fields.pop("immediate_exit", None)
    if event.name == "kvm_inj_exception" and not fields.get("error_code"):
        fields.pop("error_code", None)  # printed, as 0, by 5.10 only
        fields.pop("has_error", None)
    if event.name == "kvm_userspace_exit" and fields.get("errno") in {0, -4}:
        fields = {"errno": fields["errno"]} if fields["errno"] else fields
    return fields


def in_time(failures: tuple[Failure, ...]) -> list[Failure]:
    return [plain(f) for f in sorted(failures, key=lambda f: float(f.source.time or 0))]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", COLUMNS)
def test_text_and_raw_pages_of_one_buffer_agree(release: str, name: str) -> None:
    """``trace`` was read first, ``trace_pipe_raw`` after it: the same events in the same buffer."""
    pages, text = in_time(from_pages(release)), in_time(from_text(text_of(release, name)))
    assert len(pages) == len(text)
    for left, right in zip(pages, text, strict=True):
        assert strip_unparsed(left, right) == strip_unparsed(right, left)


def strip_unparsed(one: Failure, other: Failure) -> Failure:
    """Events whose print has no pattern here (``kvm_cpuid``) have fields in one form only."""
    trace = tuple(
        event if event.fields and other.trace[n].fields else Event(name=event.name) for n, event in enumerate(one.trace)
    )
    return msgspec.structs.replace(one, trace=trace)


@pytest.mark.parametrize("release", RELEASES)
def test_all_containers_of_one_recording_agree(release: str) -> None:
    """trace-cmd converted one file to the others."""
    first, *others = (in_time(trace_dat.read(load(release, f"{name}.dat")).failures) for name in DATS)
    assert first
    for other in others:
        assert other == first


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["report-no-plugins", "report-raw"])
def test_a_container_and_its_report_agree(release: str, name: str) -> None:
    """What trace-cmd prints of a file is what is read from the file."""
    binary = in_time(trace_dat.read(load(release, "v7-zstd.dat")).failures)
    text = in_time(from_text(text_of(release, name)))
    assert [(f.kind, f.silent, f.emulation, f.source) for f in text] == [
        (f.kind, f.silent, f.emulation, f.source) for f in binary
    ]
    assert [f.exit and (f.exit.reason, f.exit.info1, f.exit.info2, f.exit.intr_info) for f in text] == [
        f.exit and (f.exit.reason, f.exit.info1, f.exit.info2, f.exit.intr_info) for f in binary
    ]
    assert [[e.name for e in f.trace] for f in text] == [[e.name for e in f.trace] for f in binary]
