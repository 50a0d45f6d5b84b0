"""lab/replay.c: it compiles without a warning, and what it prints is what happened."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from lab.cases import Case, pack_all
from lab.catalogue import catalogue
from lab.outcome import HLT, INTERNAL_ERROR, IO, MMIO, Outcome
from needs import missing

SOURCE = Path(__file__).parents[2] / "lab" / "replay.c"
KVM = Path("/dev/kvm")


def unavailable() -> str | None:
    """Why nothing can run here, or None."""
    if shutil.which("gcc") is None:
        return "no gcc"
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    return None


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        missing("cc", "no gcc")
    program = tmp_path_factory.mktemp("replay") / "replay"
    flags = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
    ran = subprocess.run(["gcc", *flags, "-o", program, SOURCE], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return program


@pytest.fixture(scope="module")
def live() -> None:
    if (reason := unavailable()) is None:
        return
    missing("live", reason)


def run(replay: Path, directory: Path, cases: list[Case]) -> dict[str, Outcome]:
    bundle = directory / "cases"
    bundle.write_bytes(pack_all(cases))
    ran = subprocess.run([replay, bundle], capture_output=True, check=True, timeout=60)
    outcomes = [msgspec.json.decode(line, type=Outcome) for line in ran.stdout.splitlines()]
    assert [outcome.id for outcome in outcomes] == [case.id for case in cases]
    return {outcome.id: outcome for outcome in outcomes}


def test_compiles_without_warnings(replay: Path) -> None:
    """-Wall -Wextra -Werror; the offsets of the format are asserted inside."""
    assert replay.exists()


@pytest.mark.parametrize("data", [b"", b"kvmwhy", b"\0" * 4096])
def test_no_bundle(replay: Path, tmp_path: Path, data: bytes) -> None:
    """What is no bundle ends with a message, not with a crash."""
    bundle = tmp_path / "cases"
    bundle.write_bytes(data)
    ran = subprocess.run([replay, bundle], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("replay: ")


@pytest.mark.live
@pytest.mark.usefixtures("live")
def test_a_dozen_cases_here(replay: Path, tmp_path: Path) -> None:
    """On any KVM: x87 fails, a plain load is MMIO, a jump into nothing has no bytes, RAM just works."""
    wanted = {
        f"{mode}/0/{capability}/{case}"
        for mode, capability, case in (
            *((mode, "stock", "data/flds") for mode in ("long64", "prot32", "real16")),
            *((mode, "stock", "data/mov-load") for mode in ("long64", "prot32", "real16")),
            *((mode, "stock", "fetch/jmp") for mode in ("long64", "prot32", "real16")),
            *(("long64", "stock", f"ram/{name}") for name in ("mov-load", "movups", "out")),
        )
    }
    cases = [case for case in catalogue() if case.id in wanted]
    assert len(cases) == 12
    outcomes = run(replay, tmp_path, cases)
    for case in cases:
        facts, outcome = case.facts, outcomes[case.id]
        assert facts is not None
        assert outcome.stop == "exit", outcome
        reasons = [end.reason for end in outcome.exits]
        if facts.group == "ram":
            assert reasons in ([HLT], [IO, HLT])
        elif case.id.endswith("mov-load"):
            assert reasons == [MMIO, HLT]
            assert outcome.exits[0].gpa == hex(facts.gpa or 0)
            assert outcome.state is not None
            assert int(outcome.state.rax, 16) in {0x2211, 0x44332211}
        else:
            assert reasons == [INTERNAL_ERROR]
            assert outcome.exits[0].words[0] == 1


@pytest.mark.live
@pytest.mark.usefixtures("live")
def test_endless_guest_ends_here(replay: Path, tmp_path: Path) -> None:
    """A guest that never exits is stopped at its time limit."""
    (case,) = (case for case in catalogue() if case.id == "long64/0/stock/ram/hlt")
    chunks = tuple(
        msgspec.structs.replace(chunk, data=b"\xeb\xfe" + chunk.data[2:]) if chunk.gpa == case.regs.rip else chunk
        for chunk in case.chunks
    )
    assert chunks != case.chunks
    outcome = run(replay, tmp_path, [msgspec.structs.replace(case, chunks=chunks)])[case.id]
    assert (outcome.stop, outcome.exits) == ("timeout", ())
