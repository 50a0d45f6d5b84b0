"""``kvmwhy probe`` on arm64 and riscv64: against what the kernel's source says."""

from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from kvmwhy.abi.uname import Arch
from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.cli.instruction_word import code_of
from kvmwhy.cli.main import kvmwhy
from kvmwhy.cli.probe_access import Asked, known, plain, run
from kvmwhy.machine.access import BARE, host_arch, points_at
from kvmwhy.machine.bare_guest import Stopped, Trap
from kvmwhy.machine.exits import ArmNisv, Mmio
from kvmwhy.probe.access_classes import CLASSES, AccessClass
from schemas import keeps_to

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


# What no operand decoder points anywhere: a jump, and instructions that name an address without accessing it.
NO_OPERAND = {"instruction fetch", "cache maintenance", "zeroing", "prefetch"}


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_every_class_can_be_pointed_at_an_address(arch: Arch) -> None:
    """By the operand of its text: register and offset as GNU as writes them."""
    for form in CLASSES[arch]:
        regs = points_at(arch, form.code, 0x1000)
        if form.name in NO_OPERAND:
            assert regs is None or regs == {form.base: 0x1000}, form.text
            continue
        offset, base = OPERAND[arch](form.text)
        assert base == form.base
        assert regs == {base: 0x1000 - offset}, form.text


def operand_of_arm64(text: str) -> tuple[int, str]:
    """An offset behind the brackets is added afterwards."""
    match = re.search(r"\[(\w+)(?:, #(-?\d+))?(?:, x\d+)?\]", text)
    assert match, text
    return int(match[2] or 0), match[1]


def operand_of_riscv64(text: str) -> tuple[int, str]:
    match = re.search(r"(-?\d*)\((\w+)\)", text)
    assert match, text
    return int(match[1] or 0), match[2]


OPERAND = {"arm64": operand_of_arm64, "riscv64": operand_of_riscv64}


def form_of(arch: Arch, text: str) -> AccessClass:
    return next(form for form in CLASSES[arch] if form.text == text)


@pytest.mark.parametrize(
    ("arch", "text", "cause", "lacks"),
    [
        ("arm64", "ldadd x1, x2, [x0]", 0x0200_0000, True),  # Cortex-A72 has no LSE: EC 0, IL
        ("arm64", "cas x1, x2, [x0]", 0x0200_0000, True),
        ("arm64", "ldp x1, x2, [x0]", 0x9600_0010, False),  # an external abort
        ("arm64", "ldp x1, x2, [x0]", 0xFFFF_FFFF_9600_0010, False),
        ("riscv64", "amoadd.d a1, a2, (a0)", 2, True),  # illegal instruction
        ("riscv64", "fld fa1, 0(a0)", 5, False),  # load access fault
    ],
)
def test_a_cpu_without_the_instruction_is_no_fault_of_kvm(arch: Arch, text: str, cause: int, lacks: bool) -> None:
    """An undefined instruction differs from nothing; another exception differs from the source and the atlas."""
    stopped = Stopped("trap", trap=Trap(cause, 0, 0))
    asked = Asked(arch, form_of(arch, text), (("plain", stopped),), {"plain": ("ENOSYS", "EOPNOTSUPP")})
    assert (asked.lacks, asked.differs, asked.differs_from_atlas) == (lacks, not lacks, not lacks)


@pytest.mark.parametrize(
    ("arch", "word", "release", "kinds"),
    [
        ("arm64", 0x0882_1804, "7.3.4+deb13-cloud-arm64", {"mmio"}),  # stllrb: one emulator of 7.3 lacks it
        ("riscv64", 0xC032, "7.2.13+deb14-riscv64", {"mmio", "EOPNOTSUPP"}),  # c.swsp: two emulators disagree
        ("arm64", 0xA940_0801, "4.19.0", {"ENOSYS"}),  # not measured, and equal on all that were
    ],
)
def test_what_the_atlas_knows_of_this_kernel(arch: Arch, word: int, release: str, kinds: set[str]) -> None:
    """Each outcome of a CPU that has the instruction is one that this host may have as well."""
    form = AccessClass("", "", code_of(word, arch), (), "")
    assert set(known(arch, form, release)["plain"]) == kinds


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_json_keeps_to_the_schema(arch: Arch) -> None:
    """Every way that an access can end."""
    ends = (
        Stopped("end", (Mmio(0x0D00_0000, b"", 8, False),)),
        Stopped("errno", errno=38),
        Stopped("trap", trap=Trap(2, 0, 0)),
        Stopped("exit", (ArmNisv(0x45, 0x0D00_0000),)),
        Stopped("timeout"),
    )
    rows = [Asked(arch, form, (("plain", end),), {"plain": ("mmio",)}) for form in CLASSES[arch] for end in ends]
    text = "".join(f"{msgspec.json.encode(plain(row)).decode()}\n" for row in rows)
    first = keeps_to("probe", text)[0]
    assert (first["class"], first["arch"]) == (CLASSES[arch][0].name, arch)


def test_a_table_that_cannot_be_written_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence and status 2; no machine is made."""
    monkeypatch.setattr("kvmwhy.cli.probe_access.setups", lambda _: pytest.fail("asked"))
    out = str(tmp_path / "none" / "probe.tsv")
    assert run("arm64", text=None, code=None, everything=False, out=out, as_json=False) == 2
    assert capsys.readouterr().err.count("\n") == 1


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
