"""``kvmwhy probe`` on arm64 and riscv64: against what the kernel's source says."""

from __future__ import annotations

import json
import platform

import pytest
from click.testing import CliRunner

from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.cli.main import kvmwhy
from kvmwhy.machine.access import BARE, host_arch, points_at
from kvmwhy.probe.access_classes import CLASSES

BARE_HOST = pytest.mark.skipif(host_arch() not in BARE, reason="takes a host that is arm64 or riscv64")


def test_the_classes_of_arm64_are_those_of_the_syndrome_table() -> None:
    """A described access is expected to become MMIO, another to fail with ENOSYS."""
    checked = 0
    for form in CLASSES["arm64"]:
        access = load_store(int.from_bytes(form.code, "little"))
        if isinstance(access, LoadStore) and access.described is not None:
            checked += 1
            assert form.expected == (("mmio",) if access.described else ("ENOSYS",)), form.text
            assert access.form == form.name
    assert checked > 14


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_every_class_can_be_pointed_at_an_address(arch: str) -> None:
    """By its decoded operand, or by the register that its table names."""
    for form in CLASSES[arch]:  # type: ignore[index]
        regs = points_at(arch, form.code, 0x1000)  # type: ignore[arg-type]
        assert regs or form.base in {"x0", "a0"}


@BARE_HOST
@pytest.mark.live
def test_every_class_is_as_the_source_says() -> None:
    """On this host's KVM, one line of JSON each."""
    done = CliRunner().invoke(kvmwhy, ["probe", "--json"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert len(rows) == len(CLASSES[host_arch()])  # type: ignore[index]
    assert [row["text"] for row in rows if row["differs"] or row["differs_from_atlas"]] == []
    assert sum(bool(row["atlas"]) for row in rows) > len(rows) // 2
    if platform.machine() == "aarch64":
        pair = next(row for row in rows if row["text"] == "ldp x1, x2, [x0]")
        assert [pair["verdicts"][setup]["kind"] for setup in ("plain", "nisv", "abort")] == ["ENOSYS", "nisv", "trap"]


@BARE_HOST
@pytest.mark.live
def test_an_instruction_is_found_in_the_atlas() -> None:
    """Forms that look alike, whatever registers; each with what this KVM makes of it."""
    text, kind = ("ldpsw x3, x4, [x5]", "ENOSYS") if platform.machine() == "aarch64" else ("lhu a3, 4(a4)", "mmio")
    done = CliRunner().invoke(kvmwhy, ["probe", "--json", "--instruction", text])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    assert rows
    assert {row["verdicts"]["plain"]["kind"] for row in rows} == {kind}
    assert not any(row["differs_from_atlas"] for row in rows)


@BARE_HOST
def test_options_of_x86_are_refused() -> None:
    """In one sentence, status 2."""
    done = CliRunner().invoke(kvmwhy, ["probe", "--mode", "real16"])
    assert done.exit_code == 2
    assert f"--mode is for x86, and this is {host_arch()}" in done.output
