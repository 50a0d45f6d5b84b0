"""The atlas of arm64 and riscv64: its file, its rows against Arm's manual, KVM's source and other people's sweeps."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.emulator import trap_wording
from kvmwhy.emulator.packed import AtlasError
from kvmwhy.emulator.trap_atlas import Row, is_undefined, of_series, trap_atlas
from kvmwhy.emulator.trap_file import Column, Entry, Trap, pack, unpack

ENOSYS, EIO, EOPNOTSUPP = 38, 5, 95
COLUMN = Column("6.1.0-1-cloud-arm64", "#1", "QEMU emulator version 7.2.22 (Debian), TCG, cpu max", "", "", "", 2)


def test_a_file() -> None:
    """What is written is read back, whatever the order."""
    entries = [
        Entry(0xF9400004, "ldr x4, [x0]", (Trap("mmio", "r8"), None)),
        Entry(0xA9401804, "", (Trap("error", "", ENOSYS), Trap("nisv", "", 5, 0))),
    ]
    contents = unpack(pack("arm64", [COLUMN], ["mmu-off", "mmu-off-nisv"], entries))
    assert list(contents.words) == [0xA9401804, 0xF9400004]
    rows = [[contents.head.traps[at] for at in contents.head.rows[number]] for number in contents.rows]
    assert rows == [[Trap("error", "", ENOSYS), Trap("nisv", "", 5, 0)], [Trap("mmio", "r8"), None]]
    assert contents.head.columns[0].name == "6.1 on QEMU 7.2"


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_file(at: int, byte: int) -> None:
    """Damage is an error of its own, or does no harm."""
    data = bytearray(pack("arm64", [COLUMN], ["mmu-off"], [Entry(0xF9400004, "ldr", (Trap("mmio", "r8"),))]))
    data[at % len(data)] = byte
    for damaged in (bytes(data), bytes(data[: at % len(data)])):
        with contextlib.suppress(AtlasError):
            unpack(damaged)


def outcomes(row: Row, setup: str) -> set[Trap]:
    return {trap for _, trap in row.in_setup(setup)}


def known(row: Row, setup: str) -> set[Trap]:
    """Of the CPUs that have the instruction."""
    return {trap for trap in outcomes(row, setup) if not is_undefined(trap, row.arch)}


def test_arm64_row_by_row_against_the_manual() -> None:
    """Arm's manual decides which accesses have a syndrome. What is measured differs in three ways, all named here."""
    not_so = []
    for row in trap_atlas("arm64"):
        manual = load_store(row.word)
        if manual is None:
            continue
        seen = {trap.kind for trap in known(row, "mmu-off-nisv")}
        if not isinstance(manual, LoadStore):
            expected: set[str] = set()
        elif manual.described is None:
            expected = {"done"}
        elif manual.described:
            expected = {"mmio"}
        elif manual.form == "exclusive" and manual.store:
            expected = {"done"}  # a store without a reservation fails before it accesses anything
        elif manual.form == "memory copy or set":
            # Main and epilogue forms alone start over, for ever, or find nothing left to do.
            expected = {"nisv", "done", "timeout"}
        else:
            expected = {"nisv"}
        if not seen <= expected:
            not_so.append((f"{row.word:08x}", row.text, manual, seen))
    assert not_so == []


def test_the_capability_changes_the_answer_and_nothing_else() -> None:
    """KVM_CAP_ARM_NISV_TO_USER makes an exit of ENOSYS, for the same forms (arch/arm64/kvm/mmio.c: io_mem_abort)."""
    for row in trap_atlas("arm64"):
        for setup in ("mmu-off", "mmu-on", "read-only", "el0"):
            pairs = zip(row.in_setup(setup), row.in_setup(f"{setup}-nisv"), strict=True)
            for (_, without), (_, given_) in pairs:
                assert (without.kind == "error") == (given_.kind == "nisv"), (hex(row.word), setup)
                if without.kind == "error":
                    assert without.code == ENOSYS
                else:
                    assert without == given_


def test_what_qemu_makes_of_it() -> None:
    """An injected abort is an external abort at the operand's address, and never says that it was a store."""
    for row in trap_atlas("arm64"):
        for setup in ("mmu-off", "mmu-on"):
            for (_, told), (_, injected) in zip(
                row.in_setup(f"{setup}-nisv"), row.in_setup(f"{setup}-abort"), strict=True
            ):
                if told.kind == "nisv":
                    assert injected == Trap("exception", told.accesses, 0x96000010, told.offset), hex(row.word)
                else:
                    assert injected == told


def test_payload_of_nisv() -> None:
    """Of ESR_EL2 only CM, WnR and the fault status are left (kvm_vcpu_dabt_iss_nisv_sanitized)."""
    codes = {trap.code for row in trap_atlas("arm64") for trap in row.traps if trap and trap.kind == "nisv"}
    assert codes
    assert all(code & ~(1 << 8 | 1 << 6 | 0x3F) == 0 for code in codes)


NEWER = Column("7.3.4-1-cloud-arm64", "#1", "QEMU emulator version 7.2.22 (Debian), TCG, cpu max", "", "", "", 1)
OTHER_CPU = Column("7.3.4-1-cloud-arm64", "#1", "QEMU emulator version 10.0.2 (Debian), TCG, cpu max", "", "", "", 1)
MMIO, REFUSED, UNDEFINED = Trap("mmio", "r8"), Trap("error", "", ENOSYS), Trap("exception", "", 0x2000000)


@pytest.mark.parametrize(
    ("traps", "outcomes"),
    [
        ((MMIO, MMIO, UNDEFINED), [((NEWER,), MMIO)]),
        ((MMIO, UNDEFINED, MMIO), [((OTHER_CPU,), MMIO)]),
        ((MMIO, MMIO, REFUSED), [((NEWER,), MMIO), ((OTHER_CPU,), REFUSED)]),
        ((MMIO, UNDEFINED, UNDEFINED), [((NEWER, OTHER_CPU), UNDEFINED)]),
        ((MMIO, None, None), []),
    ],
)
def test_what_a_series_makes_of_it(traps: tuple[Trap, ...], outcomes: list[tuple[tuple[Column, ...], Trap]]) -> None:
    """A CPU without the instruction says nothing of the kernel if another has it; where two have it, both count."""
    row = Row("arm64", 0xF9400004, "ldr x4, [x0]", True, (COLUMN, NEWER, OTHER_CPU), ("mmu-off",), traps)
    assert of_series(row, "mmu-off", (7, 3)) == outcomes
    assert of_series(row, "mmu-off", (6, 6)) == []


def test_an_errno_has_linux_name_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """asm-generic/errno.h; macOS has ENOTSOCK and EMULTIHOP at these numbers (its sys/errno.h)."""
    monkeypatch.setattr(errno, "errorcode", {ENOSYS: "ENOTSOCK", EOPNOTSUPP: "EMULTIHOP"})
    assert trap_wording.say(Trap("error", "", ENOSYS), "arm64") == "KVM_RUN fails with ENOSYS"
    assert trap_wording.say(Trap("error", "", EOPNOTSUPP), "riscv64") == "KVM_RUN fails with EOPNOTSUPP"


def test_kernels_of_arm64_agree() -> None:
    """KVM decodes nothing, so that a kernel changes nothing: every column of one emulator has the same outcomes."""
    atlas = trap_atlas("arm64")
    assert {column.series for column in atlas.head.columns} >= {(6, 1), (6, 12), (7, 3)}
    for row in atlas:
        for setup in row.setups:
            of_emulator: dict[str, set[Trap]] = {}
            for column, trap in row.in_setup(setup):
                of_emulator.setdefault(column.emulator, set()).add(trap)
            assert all(len(traps) == 1 for traps in of_emulator.values()), (hex(row.word), setup)


# What arch/riscv/kvm/vcpu_insn.c decodes: opcode and funct3 of wide ones; quadrant and funct3 of compressed ones.
LOADS = {(0x03, funct) for funct in range(7)}
STORES = {(0x23, funct) for funct in range(4)}
COMPRESSED = {(0, 2), (0, 3), (0, 6), (0, 7), (2, 2), (2, 3), (2, 6), (2, 7)}


STACK_STORES = {(2, 6), (2, 7)}  # it wants bits 11 to 7 not to be 0, which are of the offset here


def carried_out(word: int) -> bool:
    if word & 3 != 3:
        which = (word & 3, word >> 13 & 7)
        return which in COMPRESSED and (which not in STACK_STORES or bool(word >> 7 & 31))
    return (word & 0x7F, word >> 12 & 7) in LOADS | STORES


def on_the_oldest_emulator(row: Row, setup: str) -> set[Trap]:
    """Newer ones hand KVM the instruction transformed (HTINST), so that it decodes another one than the guest's."""
    traps = {trap for column, trap in row.in_setup(setup) if column.emulator == "QEMU 7.2"}
    return {trap for trap in traps if not is_undefined(trap, row.arch)}


def test_riscv64_row_by_row_against_the_source() -> None:
    """KVM carries out these loads and stores, refuses odd addresses with EIO, and all others with EOPNOTSUPP."""
    not_so = []
    for row in trap_atlas("riscv64"):
        kinds = {(trap.kind, trap.code) for trap in on_the_oldest_emulator(row, "bare")}
        odd = {(trap.kind, trap.code) for trap in on_the_oldest_emulator(row, "bare-misaligned")}
        if carried_out(row.word):
            size = next(iter(known(row, "bare"))).accesses[1:]
            right = kinds == {("mmio", 0)} and odd == ({("mmio", 0)} if size == "1" else {("error", EIO)})
        else:
            right = kinds <= {("error", EOPNOTSUPP), ("done", 0)}
        if not right:
            not_so.append((f"{row.word:08x}", row.text, kinds, odd))
    assert not_so == []


def test_riscv64_has_vectors_and_floats() -> None:
    """FP, atomic and vector accesses were really made, with a vector length that is not 0."""
    for text in ("fld fa1, 0(a0)", "c.fld fa2, 0(a0)", "lr.w a2, (a0)", "vle8.v v1, (a0)", "vse64.v v1, (a0)"):
        rows = trap_atlas("riscv64").find(text)
        assert rows, text
        assert all(known(row, "sv39") == {Trap("error", "", EOPNOTSUPP)} for row in rows), text


def test_look_up() -> None:
    """Any registers and offsets; what is no load or store is not there."""
    atlas = trap_atlas("arm64")
    row = atlas.look_up(0xA97F7BFD)  # ldp x29, x30, [sp, #-16]
    assert row is not None
    assert (row.text, row.exact) == ("ldp x4, x6, [x0]", False)
    assert atlas.look_up(0xD65F03C0) is None  # ret
    assert {r.word for r in atlas.find("stp x1, x2, [x3, #16]!")} == {0xA9801804}
    assert len(atlas.find("ldadd")) >= 2
    assert trap_atlas("riscv64").look_up(0x00000013) is None  # nop


SAMPLES = Path(os.environ.get("KVMWHY_CORPUS") or Path(__file__).parents[3] / "shared" / "corpus").parent / "samples"
SWEEP = SAMPLES / "arm64-isv-4000-7.3.4.tsv"


@pytest.mark.skipif(not SWEEP.exists(), reason="no independent sweep here: KVMWHY_CORPUS names no corpus")
def test_another_sweep_row_by_row() -> None:
    """Words with random registers and offsets, swept by others on 7.3: each outcome is ours, or is explained here."""
    left = []
    for line in SWEEP.read_text().splitlines()[1:]:
        number, text, seen, value = (*line.split("\t"), "")[:4]
        word = int(number, 16)
        row = trap_atlas("arm64").look_up(word)
        assert row is not None, text
        if row.text.startswith(("ldr", "ldrsw", "prfm")) and "[" not in row.text:
            continue  # PC-relative: theirs point into RAM, ours do not
        setup = "mmu-off-nisv"
        if value in {"0x96000021", "0x96000061"}:  # LDAPUR and STLUR, of an offset that is no multiple of the size
            setup = "mmu-off-misaligned-nisv"
        (trap,) = {t for column, t in row.in_setup(setup) if column.series == (7, 3) and column.emulator == "QEMU 7.2"}
        ours = {
            "nisv": ("no-syndrome", f"{trap.code:#x}"),
            "mmio": ("mmio", trap.accesses[1:]),
            "exception": ("exception", f"{trap.code:#x}"),
            "done": ("no-fault", ""),
        }[trap.kind]
        if ours != (seen, value):
            left.append((line, ours))
    assert left == []


class Probe(NamedTuple):
    """One line of other people's probes: an instruction, in a setup of ours, and what came of it."""

    word: int
    text: str
    setup: str
    series: tuple[int, int]
    trap: Trap


ARM64_SETUPS = {"": "mmu-off", "nisv": "mmu-off-nisv", "mmu": "mmu-on", "nisv mmu": "mmu-on-nisv"}
# Theirs is misaligned by an offset; the operand is a page's that is not there.
MISALIGNED = {0x00152283, 0x00353283}
# Theirs ran with a vector length of 0: nothing was accessed.
NO_LENGTH = {0x02050007, 0x02050027}


def probes(path: Path) -> Iterator[Probe]:
    setup: str | None = None
    major, minor = path.name.split("-")[2].split(".")[:2]
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("@@P"):
            name = line[3:].strip().strip("[]")
            setup = "bare" if name == "rv" else ARM64_SETUPS.get(name)
        start = line.find('{"insn":"')
        if start < 0 or setup is None:
            continue
        probe = json.loads(line[start:])
        if probe["insn"] == "-" or not probe["events"]:
            continue
        word = int(probe["insn"], 16)
        accesses = "".join(f"{'w' if e['write'] else 'r'}{e['len']}" for e in probe["events"] if "mmio" in e)
        where = f"{setup}-misaligned" if word in MISALIGNED else setup
        yield Probe(word, probe["text"], where, (int(major), int(minor)), trap_of(probe["events"][-1], accesses))


def trap_of(last: dict[str, Any], accesses: str) -> Trap:
    if "errno" in last:
        return Trap("error", accesses, last["errno"])
    if "nisv_esr_iss" in last:
        return Trap("nisv", accesses, int(last["nisv_esr_iss"], 16))
    if "guest_exception" in last:
        return Trap("exception", accesses, int(last["guest_exception"], 16) & 0xFFFFFFFF)
    if "guest_trap_scause" in last:
        return Trap("exception", accesses, last["guest_trap_scause"])
    return Trap("mmio" if accesses else "done", accesses)


@pytest.mark.skipif(not SAMPLES.exists(), reason="no independent probes here: KVMWHY_CORPUS names no corpus")
@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_other_probes_row_by_row(arch: str) -> None:
    """Every load, store and maintenance that others probed on these kernels: the same outcome and payload."""
    asked = [probe for path in sorted(SAMPLES.glob(f"{arch}-probes-*")) for probe in probes(path)]
    compared, left = 0, []
    for probe in asked:
        row = trap_atlas(arch).look_up(probe.word)
        if row is None or probe.word in NO_LENGTH:
            continue
        measured_ = [(c, t) for c, t in row.in_setup(probe.setup) if c.series == probe.series]
        (ours,) = {trap._replace(offset=None) for column, trap in measured_ if column.emulator == "QEMU 7.2"}
        compared += 1
        if ours != probe.trap:
            left.append((probe, ours))
    assert left == []
    assert compared >= len(asked) // 2
