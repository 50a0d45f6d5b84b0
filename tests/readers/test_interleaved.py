"""Two vCPUs fail at once: no value of one is silently in the other's record."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, banner_of, internal_errors, reports
from kvmwhy.readers import read
from kvmwhy.record import Failure


@st.composite
def shuffles(draw: st.DrawFn, first: list[str], second: list[str]) -> str:
    """Both lists of lines in one, each in its own order."""
    out = []
    a, b = list(first), list(second)
    while a and b:
        out.append((a if draw(st.booleans()) else b).pop(0))
    return "".join(out + a + b)


def is_of(failure: Failure, report: Printed) -> bool:
    """Whether all that the failure says is this vCPU's."""
    known = report.failure
    assert known.cpu
    if failure.kind not in {known.kind, "other"} or failure.data != known.data[: len(failure.data)]:
        return False
    if failure.suberror not in {None, known.suberror} or failure.ndata not in {None, known.ndata}:
        return False
    if failure.kind != "other":
        same = ("hardware_error", "hardware_reason", "errno", "exception", "exception_error_code", "exit_reason")
        if any(getattr(failure, name) != getattr(known, name) for name in same):
            return False
    if failure.cpu_shared:
        return True
    if failure.code not in {None, known.code}:
        return False
    cpu = failure.cpu
    return cpu is None or (
        cpu.registers.items() <= known.cpu.registers.items()
        and cpu.segments.items() <= known.cpu.segments.items()
        and all(getattr(cpu, n) in {None, getattr(known.cpu, n)} for n in ("cpl", "smm", "halted", "wide"))
    )


def check(text: str, *printed: Printed) -> tuple[Failure, ...]:
    failures = read(text.encode()).failures
    for failure in failures:
        assert any(is_of(failure, report) for report in printed), failure
    return failures


@given(reports(), reports(), st.data())
def test_heads_alternate_and_dumps_follow(first: Printed, second: Printed, data: st.DataObject) -> None:
    """What QEMU prints: heads without a lock, then the dumps, one after the other, in either order."""
    heads = data.draw(shuffles(first.head.splitlines(keepends=True), second.head.splitlines(keepends=True)))
    dumps = data.draw(st.permutations([first.dump, second.dump]))
    failures = check(heads + "".join(dumps), first, second)
    assert len(failures) == 2


@given(reports(), reports(), st.data())
def test_a_head_comes_while_the_other_dumps(first: Printed, second: Printed, data: st.DataObject) -> None:
    """Lines of a head may stand inside the other vCPU's dump."""
    middle = data.draw(shuffles(first.dump.splitlines(keepends=True), second.head.splitlines(keepends=True)))
    check(first.head + middle + second.dump, first, second)


@given(reports(), reports(), st.data())
def test_dumps_alternate_line_by_line(first: Printed, second: Printed, data: st.DataObject) -> None:
    """QEMU's lock forbids it, but a collector of several logs does it."""
    heads = data.draw(st.sampled_from((first.head + second.head, "")))
    dumps = data.draw(shuffles(first.dump.splitlines(keepends=True), second.dump.splitlines(keepends=True)))
    check(heads + dumps, first, second)


@given(reports(), reports(), st.data())
def test_everything_alternates(first: Printed, second: Printed, data: st.DataObject) -> None:
    """Two whole reports, line by line, in any order."""
    text = data.draw(shuffles(first.text.splitlines(keepends=True), second.text.splitlines(keepends=True)))
    check(text, first, second)


@given(reports(internal_errors()), reports(internal_errors()))
def test_strict_alternation(first: Printed, second: Printed) -> None:
    """The nastiest order: one line of each in turn."""
    pairs = zip(first.dump.splitlines(keepends=True), second.dump.splitlines(keepends=True), strict=False)
    check(first.head + second.head + "".join(a + b for a, b in pairs), first, second)


@settings(max_examples=50)
@given(reports(internal_errors()), st.integers(2, 5))
def test_vcpus_that_fail_alike_keep_their_words(report: Printed, count: int) -> None:
    """Equal words in turn are everyone's, whoever printed them."""
    lines = report.head.splitlines(keepends=True)
    failures = read(("".join(line * count for line in lines) + report.dump * count).encode()).failures
    assert [f.data for f in failures] == [report.failure.data] * count
    assert [f.cpu for f in failures] == [report.failure.cpu] * count
    assert not any(f.cpu_shared for f in failures)


@given(reports(internal_errors()), reports(), st.data())
def test_a_head_glued_to_a_line_of_the_dump(first: Printed, second: Printed, data: st.DataObject) -> None:
    """QEMU prints a segment's line in pieces; another thread's line may come between them."""
    lines = first.dump.splitlines(keepends=True)
    at = data.draw(st.sampled_from([n for n, line in enumerate(lines) if line[:3].strip(" =") in {"ES", "TR", "LDT"}]))
    number = lines[at].split(" DPL")[0].rstrip("\n")
    rest = lines[at][len(number) :]
    text = first.head + "".join(lines[:at]) + number + second.head + rest + "".join(lines[at + 1 :]) + second.dump
    failures = check(text, first, second)
    assert [f.kind for f in failures] == [first.failure.kind, second.failure.kind]
    assert failures[0].cpu == first.failure.cpu


@given(st.data(), reports(internal_errors()))
def test_code_split_by_another_head(data: st.DataObject, report: Printed) -> None:
    """Code= is printed byte by byte; bytes behind another thread's line are not taken for the next ones."""
    other = banner_of(3, (0x80000B0E, 0x31), padded=True)
    start = report.text.index("Code=") + len("Code=")
    at = start + 3 * data.draw(st.integers(0, 18)) - data.draw(st.integers(0, 1))
    at = max(at, start)
    failures = read((report.text[:at] + other + report.text[at:]).encode()).failures
    code = failures[0].code
    known = report.failure.code
    assert known
    assert code is None or code.window == known.window[: len(code.window)]
    assert failures[0].damage
    assert (failures[1].suberror, failures[1].data) == (3, (0x80000B0E, 0x31))


def test_a_word_behind_the_other_vcpus_last_line_is_no_failure_of_its_own() -> None:
    """Two heads compete for a first word; the one that lost it ends, and then the other's comes."""
    heads = (
        "KVM internal error. Suberror: 1\nKVM internal error. Suberror: 2\nextra data[0]: 0\nemulation failure\n"
        "extra data[0]: 1\n"
    )
    failures = read(heads.encode()).failures
    assert [failure.suberror for failure in failures] == [1, 2]
    assert all(failure.ndata is None for failure in failures)
