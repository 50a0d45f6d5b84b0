"""Logs that were cut, lost a line, or have one twice: what is given is right, what is not is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmwhy.readers import Evidence, read
from kvmwhy.record import Failure
from samples import EVERY_CASE

FIXTURES = Path(__file__).parents[1] / "fixtures"
LOGS = {
    "no words": FIXTURES / "lab-svm" / "qemu-5.10" / "long64-flds" / "qemu.log",
    "eight words": FIXTURES / "long64-flds" / "qemu.log",
    "six words": FIXTURES / "long64-jump" / "qemu.log",
    "delivery": FIXTURES / "lab-svm" / "qemu-7.3" / "prot32-idt-int3" / "qemu.log",
    "real mode": FIXTURES / "real16-flds" / "qemu.log",
}
OLD = (
    "KVM internal error. Suberror: 3\nextra data[0]: 80000b0e\nextra data[1]: 31\nextra data[2]: 182\n"
    "extra data[3]: bfff0\n"
)


def texts() -> dict[str, str]:
    found = {name: path.read_text() for name, path in LOGS.items()}
    dump = found["eight words"].partition("emulation failure\n")[2]
    found["unpadded words"] = OLD + dump
    found["entry failure"] = "KVM: entry failed, hardware error 0x80000021\n" + dump
    found["unknown exit"] = "KVM: unknown exit, hardware reason 31\n" + dump
    found["run error"] = "error: kvm run failed No such device or address\n" + dump
    found["two failures"] = found["eight words"] + found["real mode"]
    return found


TEXTS = texts()


def values(failure: Failure) -> dict[str, object]:
    """Everything that the failure says, one value each."""
    said: dict[str, object] = {
        "kind": None if failure.kind == "other" else failure.kind,
        "suberror": failure.suberror,
        "ndata": failure.ndata,
        "hardware_error": failure.hardware_error,
        "hardware_reason": failure.hardware_reason,
        "errno": failure.errno,
    }
    said |= {f"data[{n}]": word for n, word in enumerate(failure.data)}
    if failure.cpu:
        said |= failure.cpu.registers
        said |= failure.cpu.segments
        said |= {"cpl": failure.cpu.cpl, "smm": failure.cpu.smm, "halted": failure.cpu.halted}
        said["wide"] = failure.cpu.wide
    if failure.code:
        said["rip_at"] = failure.code.rip_at
        said |= {f"code[{n}]": byte for n, byte in enumerate(failure.code.window)}
    return {name: value for name, value in said.items() if value is not None}


def damage(evidence: Evidence) -> list[str]:
    return [*evidence.damage, *(d for f in evidence.failures for d in f.damage)]


@pytest.mark.parametrize("name", TEXTS)
def test_cut_anywhere_nothing_is_invented(name: str) -> None:
    """No number that was cut is taken for a whole one, and a cut inside a line is named."""
    text = TEXTS[name]
    whole = read(text.encode()).failures
    for end in range(0, len(text), 1 if EVERY_CASE else 3):
        evidence = read(text[:end].encode())
        for failure, known in zip(evidence.failures, whole, strict=False):
            assert values(failure).items() <= values(known).items(), text[:end][-80:]
        assert len(evidence.failures) <= len(whole)
        if evidence.failures and evidence.failures != whole[: len(evidence.failures)]:
            last = evidence.failures[-1]
            between_lines = "\n" in text[end - 1 : end + 1]
            assert damage(evidence) or (last.cpu is None and between_lines), text[:end][-80:]


@pytest.mark.parametrize("name", TEXTS)
def test_any_line_lost_nothing_is_invented(name: str) -> None:
    """What stood in the lost line is absent; that it is absent is named."""
    lines = TEXTS[name].splitlines(keepends=True)
    whole = read(TEXTS[name].encode()).failures
    known = [values(f) for f in whole]
    for lost in range(len(lines)):
        evidence = read("".join(lines[:lost] + lines[lost + 1 :]).encode())
        # The last word, gone with all of its line, leaves a list that is well formed: only its count is less.
        last_word = lines[lost].startswith("extra data") and not lines[lost + 1].startswith("extra data")
        for failure in evidence.failures:
            said = values(failure)
            if last_word:
                said.pop("ndata", None)
            assert any(said.items() <= k.items() for k in known), lines[lost]
        assert last_word or damage(evidence), lines[lost]


@pytest.mark.parametrize("name", TEXTS)
def test_any_line_twice_does_no_harm(name: str) -> None:
    """Copying a terminal's screens gives lines twice; each value is what it was."""
    lines = TEXTS[name].splitlines(keepends=True)
    whole = read(TEXTS[name].encode()).failures
    known = [values(f) for f in whole]
    for twice in range(len(lines)):
        failures = read("".join(lines[: twice + 1] + lines[twice:]).encode()).failures
        for failure in failures:
            assert any(values(failure).items() <= k.items() for k in known), lines[twice]
        if not lines[twice].startswith(("KVM", "error")):  # a second announcement is a second failure
            assert [values(f) for f in failures] == known, lines[twice]


@pytest.mark.parametrize("name", TEXTS)
def test_any_byte_lost_or_foreign_never_raises(name: str) -> None:
    """Bit rot: the reader returns, and every other value is still right or absent."""
    text = TEXTS[name]
    for at in range(0, len(text), 3 if EVERY_CASE else 8):
        read((text[:at] + text[at + 1 :]).encode())
        read((text[:at] + "\N{REPLACEMENT CHARACTER}" + text[at + 1 :]).encode())


@pytest.mark.parametrize(("kernel", "lost"), [("6.14.2", True), ("6.1.0-18-amd64", False), ("custom", False)])
def test_a_lost_last_word_is_seen_where_the_kernel_is_known(kernel: str, *, lost: bool) -> None:
    """Four words of a failed delivery are all of an older kernel's, and not all of one that always writes five."""
    header = (
        f"2026-01-01 00:00:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 8.2.0, kernel: {kernel}\n"
    )
    (failure,) = read((header + TEXTS["unpadded words"]).encode()).failures
    assert failure.data == (0x80000B0E, 0x31, 0x182, 0xBFFF0)
    assert failure.ndata == (None if lost else 4)
    assert any("the last are missing" in remark for remark in failure.damage) is lost
