"""The maps of arm64's and riscv64's atlas: what they say against the rows, and how they are in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from browser import looks_of, overflow, violations, visit
from kvmwhy.cli.main import kvmwhy
from kvmwhy.emulator.trap_atlas import TrapAtlas, trap_atlas
from kvmwhy.render.trap_map import family_of, setups_of
from outlines import held

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ARCHS = ("arm64", "riscv64")
Pages = Callable[[str], Path]
LETTERS = {"mmio": "y", "nisv": "v", "error": "n", "exception": "x", "done": "d"}
# ESR_EL1 with exception class 0 and IL; SCAUSE of an illegal and of a virtual instruction.
LACKS = {"arm64": {0x200_0000}, "riscv64": {2, 22}}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    folder = tmp_path_factory.mktemp("traps")

    def written(arch: str) -> Path:
        path = folder / f"{arch}.html"
        if not path.exists():
            made = CliRunner().invoke(kvmwhy, ["atlas", "--arch", arch, "--html", str(path), "--kernel", "7.3"])
            assert made.exit_code == 0, made.output
        return path

    return written


@pytest.mark.parametrize("arch", ARCHS)
def test_it_is_well_formed_and_loads_nothing(pages: Pages, arch: str) -> None:
    """Ids once, links that lead somewhere, one style and one script, both allowed by their hashes alone."""
    text = pages(arch).read_text()
    held(text)
    assert "unsafe" not in text
    assert len(text) < 1_000_000


def counted(atlas: TrapAtlas) -> dict[tuple[str, int], str]:
    """Of each family and setup the letter of each column, out of the rows."""
    arch, setups = atlas.head.arch, atlas.head.setups
    kinds: dict[tuple[str, int], list[set[str]]] = {}
    for row in atlas:
        for column in range(len(row.columns)):
            traps = [trap for trap in row.traps[column * len(setups) :][: len(setups)] if trap]
            if all(trap.kind == "exception" and trap.code in LACKS[arch] for trap in traps):
                continue
            for trap, setup in zip(traps, setups, strict=True):
                key = family_of(row.word, arch), setups_of(atlas).index(setup)
                kinds.setdefault(key, [set() for _ in row.columns])[column].add(LETTERS.get(trap.kind, "o"))
    return {key: "".join("-" if not s else "s" if s - {min(s)} else min(s) for s in of) for key, of in kinds.items()}


@pytest.mark.parametrize("arch", ARCHS)
def test_each_cell_is_the_atlas(pages: Pages, arch: str) -> None:
    """Of every family and setup: the letter of each kernel and CPU, worked out anew from the rows."""
    drawn: dict[tuple[str, int], str] = {}
    for name, cells in re.findall(r'<tr><th scope="row">([^<]+)</th>(.*?)</tr>', pages(arch).read_text()):
        for number, fates in enumerate(re.findall(r'<td class="v([a-z-]+)"', cells)):
            drawn[name, number] = fates
    assert drawn == counted(trap_atlas(arch))


@pytest.mark.parametrize(
    ("arch", "family", "setup", "text"),
    [
        # arch/arm64/kvm/mmio.c: io_mem_abort; a pair has no valid syndrome (Arm ARM, ISS for a data abort)
        ("arm64", "pair", 0, "ENOSYS"),
        ("arm64", "pair", 4, "NISV"),
        ("arm64", "pair", 10, "external abort"),
        ("arm64", "one register", 0, "MMIO"),
        # arch/riscv/kvm/vcpu_insn.c: kvm_riscv_vcpu_mmio_load decodes integer loads and no others
        ("riscv64", "load", 0, "MMIO"),
        ("riscv64", "floating point load", 0, "EOPNOTSUPP"),
    ],
)
def test_what_the_kernels_source_says(pages: Pages, arch: str, family: str, setup: int, text: str) -> None:
    """The cell's own words, on every kernel."""
    row = re.search(rf'<tr><th scope="row">{family}</th>(.*?)</tr>', pages(arch).read_text())
    assert row
    cell = re.findall(r"<td .*?</td>", row[1])[setup]
    assert set(re.findall(r'<i class="t\d">([^<]+)</i>', cell)) == {text}
    assert f": {text} in all" in cell


@pytest.mark.parametrize(
    ("arch", "word", "says"),
    [
        ("arm64", "08821804", "MMIO in every setup"),  # stllrb
        # ldlarb: a read-only slot is memory to a load
        ("arm64", "08c21804", "no fault (read-only slot. With KVM_CAP_ARM_NISV_TO_USER: read-only slot); else MMIO"),
        ("riscv64", "c032", "7.2 on QEMU 10.0: "),  # c.swsp: the emulators disagree
    ],
)
def test_a_form_is_listed_by_the_word_that_bytes_takes(pages: Pages, arch: str, word: str, says: str) -> None:
    """What becomes of it, by setup, with the CPUs apart where they disagree."""
    (line,) = re.findall(rf'<td class="c">{word}</td><td>\d+</td><td>(.*?)</td>', pages(arch).read_text())
    assert says in re.sub(r"<[^>]+>", "", line)


@pytest.mark.parametrize(
    ("arch", "kernel", "chosen"),
    [
        ("arm64", "7.3.4+deb13-cloud-arm64", "7.3 on QEMU 10.0"),
        ("arm64", "6.6", "6.1 on QEMU 7.2 (the nearest to 6.6)"),
        ("arm64", "5.10", "6.1 on QEMU 7.2 (the nearest to 5.10)"),
        ("riscv64", "7.3", "7.2 on QEMU 10.0 (the nearest to 7.3)"),
        ("x86", "6.18", "6.18"),
        ("x86", "6.6", "6.1 (the nearest to 6.6)"),
    ],
)
def test_the_kernel_that_was_asked_for_is_chosen(tmp_path: Path, arch: str, kernel: str, chosen: str) -> None:
    """Or the nearest below it, or the oldest; of several emulators the newest. It is not called this host's."""
    path = tmp_path / "atlas.html"
    assert CliRunner().invoke(kvmwhy, ["atlas", "--arch", arch, "--html", str(path), "--kernel", kernel]).exit_code == 0
    (label,) = re.findall(r'name="kernel" id="k\d+" checked>(.*?)</label>', path.read_text())
    assert re.sub(r"<[^>]+>", "", label).strip() == chosen


@pytest.mark.parametrize(("arch", "scheme", "width"), [(arch, *look) for arch in ARCHS for look in looks_of(arch)])
def test_in_a_browser(chromium: Browser, pages: Pages, arch: str, scheme: str, width: int) -> None:
    """Axe finds nothing, nothing is asked for, and the page is no wider than its window."""
    with visit(chromium, pages(arch).as_uri(), scheme=scheme, width=width) as seen:
        assert overflow(seen.page) <= 0
        assert violations(seen.page) == []
        assert seen.errors == []
        assert seen.outside("file:") == []


def test_filters(chromium: Browser, pages: Pages) -> None:
    """Kernel, CPU and what is shown are chosen without a script; a name is found with it."""
    with visit(chromium, pages("riscv64").as_uri()) as seen:
        store, load = (seen.page.locator(f'td:has(> a[href="#f-{name}"])').first for name in ("store", "load"))
        assert store.inner_text().endswith("MMIO")
        seen.page.check("#k0")
        assert "EOPNOTSUPP" in store.inner_text(), "C.SWSP and C.SDSP, whose offset KVM takes from the guest's word"
        seen.page.check("#schanged")
        assert store.locator("a").is_visible()
        assert load.locator("a").is_hidden()
        seen.page.check("#sbad")
        assert load.locator("a").is_hidden()
        seen.page.check("#sall")
        seen.page.fill("#q", "amoswap.w.aq")
        assert load.locator("a").is_hidden()
        assert seen.page.locator('a[href="#f-atomic"]').first.is_visible()
        assert "forms" in seen.page.locator("#count").inner_text()


@pytest.mark.parametrize("arch", ARCHS)
def test_a_file_that_cannot_be_written(tmp_path: Path, arch: str) -> None:
    """One sentence and status 2."""
    result = CliRunner().invoke(kvmwhy, ["atlas", "--arch", arch, "--html", str(tmp_path / "none" / "atlas.html")])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
