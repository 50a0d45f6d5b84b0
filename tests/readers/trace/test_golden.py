"""Genuine traces: what each guest did is known from how it was built, not from the reader.

The guests and their order are in provenance.json; every trace of a kernel has the same ones.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.readers.trace import ftrace, trace_dat
from kvmwhy.readers.trace.formats import Formats
from kvmwhy.record import Failure
from readers.trace.samples import COLUMNS, DATS, RELEASES, formats_of, from_pages, from_text, load, text_of

NPF, NO_ENTRY = 0x400, 0xFFFFFFFF
HOLE, IDT_ENTRY, REAL_HOLE = 0xD0000000, 0xD0000060, 0xD0000

# (kind, silent, bytes, RIP, CS base, mode, exit reason, what it accessed): one line for each guest that failed.
FLDS_0 = ("internal-error", False, "d903", 0x10100, 0, "long64", NPF, HOLE)
FLDS_3 = ("other", True, "d903", 0x10100, 0, "long64", NPF, HOLE)
FLDS_204 = FLDS_0  # at CPL 3, with KVM_CAP_EXIT_ON_EMULATION_FAILURE: the trace shows no difference
JUMP = ("internal-error", False, "", HOLE, 0, "long64", NPF, HOLE)
REAL = ("internal-error", False, "d907", 0x100, 0x10000, "real16", NPF, REAL_HOLE)
PROT_3 = ("other", True, "d903", 0x10100, 0, "prot32", NPF, HOLE)
EVENT = ("internal-error", False, "0f0b", 0x10100, 0, "long64", NPF, IDT_ENTRY)
EVENT_3 = ("internal-error", False, None, None, None, None, NPF, IDT_ENTRY)  # suberror 3 from 6.14: no emulation
ENTRY = ("entry-failure", False, None, None, None, None, NO_ENTRY, 0)
FXSAVE_0 = ("internal-error", False, "0fae03", 0x10100, 0, "long64", NPF, HOLE)
FXSAVE_3 = ("other", True, "0fae03", 0x10100, 0, "long64", NPF, HOLE)
PROT_0 = ("internal-error", False, "d903", 0x10100, 0, "prot32", NPF, HOLE)
COMPAT_3 = PROT_3  # the tracepoint does not tell compatibility mode from protected mode

TOGETHER = [FXSAVE_0, FXSAVE_3, PROT_0, COMPAT_3]
EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "5.10": [FLDS_0, FLDS_3, JUMP, REAL, PROT_3, EVENT, ENTRY, *TOGETHER],  # has no such capability
    "6.1": [FLDS_0, FLDS_3, FLDS_204, JUMP, REAL, PROT_3, EVENT, ENTRY, *TOGETHER],
    "7.3": [FLDS_0, FLDS_3, FLDS_204, JUMP, REAL, PROT_3, EVENT_3, ENTRY, *TOGETHER],
}
PVM = Path(__file__).parents[2] / "fixtures" / "trace-pvm"
SAMPLES = Path(__file__).parents[4] / "shared" / "samples"


def expected(release: str) -> list[tuple[Any, ...]]:
    return sorted(EXPECTED[".".join(release.split(".")[:2])], key=repr)


def seen(failures: tuple[Failure, ...], *, mode: bool = True) -> list[tuple[Any, ...]]:
    out = []
    for failure in failures:
        insn, exit_ = failure.emulation, failure.exit
        assert exit_ is not None
        row = (
            failure.kind,
            failure.silent,
            insn and insn.insn.hex(),
            insn and insn.rip,
            insn and insn.cs_base,
            insn and insn.mode if mode else None,
            exit_.reason,
            exit_.info2,
        )
        out += [row] * failure.source.count
    return sorted(out, key=repr)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", [*COLUMNS, "report-no-plugins", "report-raw", "perf", "perf-tid", "perf-ns"])
def test_text_tells_of_every_guest_that_failed(release: str, name: str) -> None:
    """In each layout of columns, and as each tool prints it: no failure missing, none too many."""
    text = text_of(release, name)
    assert ftrace.detect(text)
    assert seen(from_text(text)) == expected(release)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["report", "report-ns", "report-latency"])
def test_the_rendering_of_libtraceevent_tells_the_same(release: str, name: str) -> None:
    """Its plugin prints no mode, no vCPU with an exit, and names of its own; all else is there."""
    want = [(*row[:5], None, *row[6:]) for row in expected(release)]
    assert seen(from_text(text_of(release, name)), mode=False) == sorted(want, key=repr)


@pytest.mark.parametrize("release", RELEASES)
def test_raw_pages_tell_of_every_guest_that_failed(release: str) -> None:
    """Two CPUs' pages, read with the kernel's own format files."""
    assert seen(from_pages(release)) == expected(release)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", DATS)
def test_trace_dat_tells_of_every_guest_that_failed(release: str, name: str) -> None:
    """Version 6 and 7, plain and compressed with zstd, as trace-cmd wrote them."""
    data = load(release, f"{name}.dat")
    assert trace_dat.detect(data)
    read = trace_dat.read(data)
    assert read.damage == ()
    assert seen(read.failures) == expected(release)


@pytest.mark.parametrize("release", RELEASES)
def test_every_failure_has_its_own_vcpu_and_story(release: str) -> None:
    """Each guest has one vCPU, 0, and its last event is the one that settled what happened."""
    for failure in from_text(text_of(release, "tgid")):
        assert failure.source.vcpu == 0
        assert 1 < len(failure.trace) <= 16
        assert failure.trace[-1].name == ("kvm_entry" if failure.silent else "kvm_userspace_exit")
        times = [event.time or 0.0 for event in failure.trace]
        assert times == sorted(times)


@pytest.mark.parametrize("release", RELEASES)
def test_only_a_failed_emulation_that_userspace_heard_of_is_suberror_1(release: str) -> None:
    """A trace does not say which suberror it was: a failed emulation says it, nothing else does."""
    for failure in from_pages(release):
        told = failure.kind == "internal-error" and failure.emulation is not None
        assert failure.suberror == (1 if told else None)


def test_the_story_of_a_silent_failure_is_kept() -> None:
    """VM-exit, page fault, emulation begun and failed, #UD injected, guest entered again."""
    silent = [f for f in from_text(text_of(RELEASES[-1], "plain")) if f.silent and f.emulation]
    (failure,) = (f for f in silent if f.emulation and f.emulation.insn.hex() == "0fae03")
    assert [event.name for event in failure.trace[-6:]] == [
        "kvm_exit",
        "kvm_page_fault",
        "kvm_emulate_insn",
        "kvm_emulate_insn",
        "kvm_inj_exception",
        "kvm_entry",
    ]
    assert failure.trace[-2].fields == {"exception": 6, "has_error": 0, "reinjected": 0}
    assert failure.damage == ()


def test_two_vcpus_that_no_event_names() -> None:
    """kvm_pvm has neither kvm_entry nor kvm_exit: the threads tell the vCPUs apart, and no number is made up."""
    text = gzip.decompress((PVM / "plain.txt.gz").read_bytes()).decode()
    formats = Formats.parse(gzip.decompress((PVM / "formats.txt.gz").read_bytes()).decode())
    pages = {int(path.name[3:-3]): gzip.decompress(path.read_bytes()) for path in sorted((PVM / "raw").iterdir())}
    for failures in (from_text(text), trace_dat.read_pages(pages, formats).failures):
        assert len({failure.source.writer for failure in failures}) == 2
        for failure, hole in zip(failures, (0xE0000000, 0xD0000000), strict=True):
            assert (failure.kind, failure.suberror, failure.exit) == ("internal-error", 1, None)
            assert failure.source.vcpu is None
            assert failure.emulation
            assert (failure.emulation.rip, failure.emulation.insn.hex()) == (0x10004, "d903")
            assert {event.fields["gpa"] for event in failure.trace if "gpa" in event.fields} == {hole}
            assert len(failure.trace) == 10


@pytest.mark.parametrize("release", RELEASES)
def test_overwritten_events_are_counted(release: str) -> None:
    """The kernel stored how many it lost; some failures behind that have no story, and say why."""
    pages = {cpu: load(release, f"lost/cpu{cpu}") for cpu in (0, 1)}
    read = trace_dat.read_pages(pages, formats_of(release))
    assert any("lost" in remark for remark in read.damage)
    assert len(read.failures) >= 5


@pytest.mark.parametrize("name", ["ftrace-6.1.0-56-cloud-amd64.txt", "ftrace-7.3.4+deb13-cloud-amd64.txt"])
def test_another_bench_tells_the_same_sort_of_story(name: str) -> None:
    """Traces of other guests on the same kernels, taken by someone else, amid other text."""
    if not (SAMPLES / name).exists():
        pytest.skip(f"no {SAMPLES / name}: it is not part of the repository")
    text = (SAMPLES / name).read_text()
    failures = from_text(text)
    assert len(failures) == text.count(") failed\n")
    assert all(f.kind == "internal-error" and f.exit and f.exit.isa == "svm" for f in failures)
