"""lab.trap_atlas: kernels of arm64 and riscv64 are booted again, and say what the atlas has; and what needs no boot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from kvmwhy.emulator.trap_atlas import TrapAtlas
from kvmwhy.emulator.trap_file import Trap
from lab import benches, kernels, trap_atlas, traps
from lab.ready import work_directory
from needs import missing

# What CI has time for: arm64 on two kernels, riscv64 on one.
SAMPLED = (("arm64", "6.1", 12), ("arm64", "7.3", 12), ("riscv64", "6.12", 4))


@pytest.mark.parametrize(
    ("line", "trap"),
    [
        ('"mmio":[["0xd000000",8,0,"0x0"]],"end":"done"', Trap("mmio", "r8")),
        ('"mmio":[],"end":"done"', Trap("done")),
        ('"mmio":[["0xd000000",4,1,"0x44444444"]],"end":"errno","errno":38', Trap("error", "w4", 38)),
        ('"mmio":[],"end":"exit","exit":28,"words":["0x45","0xd000010"]', Trap("nisv", "", 0x45, 16)),
        ('"mmio":[],"end":"exit","exit":28,"words":["0x5","0x3fff1850"]', Trap("nisv", "", 5, None)),
        # 6.1 writes ESR_EL1 sign-extended; where an undefined instruction leaves FAR_EL1 alone it says nothing.
        (
            '"mmio":[],"end":"exception","cause":"0xffffffff96000021","address":"0xd000001"',
            Trap("exception", "", 0x96000021, 1),
        ),
        ('"mmio":[],"end":"exception","cause":"0x2000000","address":"0xd000000"', Trap("exception", "", 0x2000000)),
        ('"mmio":[],"end":"timeout"', Trap("timeout")),
    ],
)
def test_a_line_as_the_atlas_has_it(line: str, trap: Trap) -> None:
    """What trap_sweep.c prints, in the atlas' terms."""
    (read,) = traps.lines_of(f'{{"setup":"mmu-off","word":"f9400004",{line}}}'.encode())
    assert trap_atlas.trap_of(read, "arm64") == trap


@pytest.mark.parametrize(
    ("arch", "word", "text", "unknown"),
    [("arm64", 0xA9401804, "ldp x4, x6, [x0]", 0xF9C00004), ("riscv64", 0x4602, "c.lwsp a2,0(sp)", 0x00057603)],
)
def test_texts(arch: str, word: int, text: str, unknown: int) -> None:
    """binutils names the forms; an encoding that it does not know has no name."""
    if shutil.which(f"{trap_atlas.PREFIX[arch]}-objdump") is None:
        missing("lab", f"no binutils of {arch}")
    assert trap_atlas.texts(arch, [word, unknown]) == {word: text, unknown: ""}


@pytest.mark.parametrize("arch", list(traps.SETUPS))
def test_the_package_has_every_form(arch: str) -> None:
    """The data in the package is of the forms, and of the setups, that the lab asks today."""
    atlas = TrapAtlas((trap_atlas.DATA / f"traps-{arch}.bin").read_bytes())
    assert [row.word for row in atlas] == sorted(traps.FORMS[arch]())
    assert atlas.head.setups == traps.SETUPS[arch]
    assert all(None not in row.traps for row in atlas)


@pytest.mark.parametrize("arch", list(traps.SETUPS))
def test_the_program_knows_the_setups(arch: str) -> None:
    """Each setup that is asked for is in the program's own list."""
    header = (Path(trap_atlas.__file__).parent / f"trap_{arch}.h").read_text()
    assert all(f'{{ "{setup}"' in header for setup in traps.SETUPS[arch])


@pytest.mark.lab
@pytest.mark.parametrize(("arch", "series", "every"), SAMPLED)
def test_measured_again(arch: str, series: str, every: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Forms of a sample, asked anew of a kernel that is booted for it, come out as the atlas has them."""
    if "KVMWHY_LAB" not in os.environ:
        pytest.skip("KVMWHY_LAB is not set")
    if lacks := benches.missing(arch):
        missing("lab", f"no {', '.join(lacks)}")
    try:
        kernels.choose(work_directory(), [series], benches.BENCHES[arch].architecture)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    status = trap_atlas.main(["sample", arch, "--kernel", series, "--every", str(every)])
    written = capsys.readouterr()
    if status == kernels.MISSING:  # another version of QEMU than any that the atlas was measured on
        missing("lab", f"NOT CHECKED: {written.err}")
    assert status == 0, written
