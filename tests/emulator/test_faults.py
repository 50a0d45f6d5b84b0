"""The families of faults: the measured atlas decides what is in them, and kept runs that each test fails rightly."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from kvmwhy.emulator.atlas import Row, atlas
from kvmwhy.emulator.atlas_file import Kernel
from kvmwhy.emulator.faults import FAMILIES, Family, by_id, of_form
from kvmwhy.emulator.faults.families import SET_ASIDE
from kvmwhy.emulator.measured import Measured
from kvmwhy.emulator.trap_atlas import trap_atlas
from kvmwhy.reproduce.export import ExportError
from kvmwhy.reproduce.export.fault_mail import WIDTH
from kvmwhy.reproduce.export.fault_test import write

ROOT = Path(__file__).parents[2]
for directory in (ROOT, ROOT / "tools"):
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))

import make_emulator_faults  # noqa: E402  # a tool, not a package

from lab import faults as lab_faults  # noqa: E402

X86 = [family for family in FAMILIES if family.arch == "x86"]
BY_ID = {family.id: family for family in FAMILIES}


def newest(vendor: str) -> int:
    """The column of the newest kernel that was asked without module parameters."""
    columns = [n for n, kernel in enumerate(atlas().kernels) if (kernel.vendor, kernel.module_args) == (vendor, "")]
    return max(columns, key=lambda number: atlas().kernels[number].series)


def on_newest() -> list[tuple[Row, Kernel, Measured]]:
    found = []
    for vendor in ("svm", "vmx"):
        number = newest(vendor)
        found += [(row, row.kernels[number], verdict) for row in atlas() if (verdict := row.verdicts[number])]
    return found


def named(row: Row) -> list[Family]:
    return [family for family in FAMILIES if (row.mode, row.code.hex(" ")) in family.forms]


def test_every_wrong_form_is_in_exactly_one_family() -> None:
    """Of the newest kernel of each vendor: carried out unlike on a CPU, or without an end."""
    counts: Counter[str] = Counter()
    for row, kernel, verdict in on_newest():
        wrong = verdict.kind == "emulated" and verdict.compared == "wrong"
        endless = verdict.kind in {"no-exit", "endless"}
        if wrong or endless:
            families = named(row)
            assert len(families) == 1, (row.mode, row.code.hex(" "), kernel.name)
            assert families[0].never_ends == endless, families[0].id
            counts[f"{kernel.vendor} {'endless' if endless else 'wrong'}"] += 1
    assert counts["svm wrong"] == 75
    assert counts["svm endless"] == 41


def test_no_family_names_a_form_that_is_right() -> None:
    """Each of its forms is wrong on the newest kernel of some vendor; no form stands in two families, or twice."""
    wrong: set[tuple[str, str]] = set()
    for row, _, verdict in on_newest():
        if verdict.kind in {"no-exit", "endless"} or (verdict.kind == "emulated" and verdict.compared == "wrong"):
            wrong.add((row.mode, row.code.hex(" ")))
    forms = [form for family in X86 for form in family.forms]
    assert set(forms) <= wrong
    assert len(forms) == len(set(forms))


def test_what_is_set_aside() -> None:
    """Every other difference that the comparison found is an exception, and has its reason."""
    for row, kernel, verdict in on_newest():
        if verdict.kind != "exception" or verdict.compared != "wrong":
            continue
        form = (row.mode, row.code.hex(" "))
        reasons = [one for one in SET_ASIDE if form in one.forms or one.technique == row.technique]
        assert len(reasons) == 1, (form, kernel.name)
        assert named(row) == []


def test_riscv64_has_the_stores_that_fail() -> None:
    """C.SWSP and C.SDSP that fail with EOPNOTSUPP, where the others do not, and nothing else."""
    lost = {
        ("riscv64", f"{row.word:04x}")
        for row in trap_atlas("riscv64")
        if row.text.startswith(("c.swsp", "c.sdsp"))
        and any(trap.kind == "error" and trap.code == 95 for _, trap in row.in_setup("bare"))
    }
    assert set(BY_ID["riscv-c-swsp-c-sdsp"].forms) == lost


def test_look_up() -> None:
    """An instruction of the atlas leads to its family; one that is right leads nowhere."""
    row = atlas().look_up(bytes.fromhex("f3 45 0f bc 4a 08"), "long64")  # tzcnt r9d,[r10+8]
    assert row is not None
    family = of_form(row.mode, row.code)
    assert family is not None
    assert family.id == "tzcnt-lzcnt"
    assert of_form("long64", bytes.fromhex("0f bc 03")) is None
    assert of_form("riscv64", bytes.fromhex("c032")) is by_id("riscv-c-swsp-c-sdsp")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
def test_a_family_is_whole(family: Family) -> None:
    """Its id can be an anchor and a file's name, its place is a file of the kernel, and it says all that mails need."""
    assert re.fullmatch(r"[a-z0-9-]+", family.id)
    assert re.match(r"arch/(x86|riscv)/kvm/\w+\.c: ", family.place)
    assert all((family.manual, family.does, family.why, family.harm, family.known, family.suggestion))
    assert family.guests if family.arch == "x86" else family.stores
    for text in (family.manual, family.does, family.why, family.harm, family.known, family.suggestion):
        assert text[0].isupper() or text[0].isdigit() or text.startswith("kvm")
        assert text.endswith(".")


def test_the_page_and_the_mails_are_made_of_the_data() -> None:
    """docs/ has what tools/make_emulator_faults.py makes today, and a heading for each id."""
    files = make_emulator_faults.files()
    for name, text in files.items():
        assert (ROOT / "docs" / name).read_text() == text, name
    headings = set(re.findall(r"^## (\S+)$", files["emulator-faults.md"], re.MULTILINE))
    assert set(BY_ID) <= headings


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.id)
def test_a_mail_is_one_for_the_list(family: Family) -> None:
    """A subject in the list's form, rows of at most 72 columns before the program, ASCII, and what was run."""
    mail = (ROOT / "docs" / "emulator-faults" / f"{family.id}.txt").read_text()
    head, _, rest = mail.partition("\n\n")
    body, _, program = rest.partition("--- >8 --- ")
    assert re.search(r"^Subject: (KVM: x86|RISC-V: KVM)", head, re.MULTILINE)
    assert "vger.kernel.org" in head
    assert all(len(row) <= WIDTH for row in body.splitlines() if not row.startswith("    "))
    assert mail.isascii()
    assert "silicon" in body
    assert program.partition("\n")[2] == write(family, "c")


def test_kept_runs_are_of_these_programs() -> None:
    """What a program printed is kept with the program's digest: an older program's result does not count."""
    for results in lab_faults.kept():
        for name, ran in results.families.items():
            assert ran.program == lab_faults.digest(BY_ID[name]), (
                f"{results.vendor} {results.release} {name}: run it again"
            )


@pytest.mark.parametrize("bench", sorted({results.vendor for results in lab_faults.kept()}))
def test_each_test_fails_on_the_newest_kernel(bench: str) -> None:
    """And, on x86, with its control right: what is expected holds where the CPU itself executes the instruction."""
    results = [one for one in lab_faults.kept() if one.vendor == bench and not one.module_args]
    newest_of = results[-1]
    if bench != "riscv64":
        assert newest_of.release.startswith("7.3")
    assert set(newest_of.families) == {family.id for family in lab_faults.families_of(bench)}
    for name, ran in newest_of.families.items():
        assert ran.status == 1, name
        if bench == "riscv64":
            continue
        assert ran.printed.count("control: right") == sum(
            "not on this CPU" not in part for part in guests_of(ran.printed)
        )
        found = re.search(r"^(\d+) wrong of (\d+)", ran.printed, re.MULTILINE)
        assert found
        assert found[1] == found[2] != "0", name


def guests_of(printed: str) -> list[str]:
    """The first line of each guest: neither indented nor the last."""
    return [line for line in printed.splitlines()[:-1] if not line.startswith("\t")]


def test_no_selftest_of_riscv64() -> None:
    """The selftest's guests are of x86; of riscv64 there is the program alone, and that is said."""
    with pytest.raises(ExportError, match="stands alone"):
        write(BY_ID["riscv-c-swsp-c-sdsp"], "selftest")
