"""The exported selftest in a kernel's own tree: built with its library, by its Makefile, and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kvmwhy.emulator.faults import FAMILIES, Family
from kvmwhy.machine import KvmMachine
from kvmwhy.readers import read
from kvmwhy.reproduce import Plan, plan
from kvmwhy.reproduce.export import export
from kvmwhy.reproduce.export.fault_test import write

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def selftests() -> Path:
    """The directory of KVM's selftests in a kernel tree with its headers made, as tools/kernel_tree.sh makes one."""
    tree = os.environ.get("KVMWHY_KERNEL_TREE")
    if not tree:
        pytest.skip("KVMWHY_KERNEL_TREE names no kernel tree (tools/kernel_tree.sh fetches one)")
    if shutil.which("make") is None:
        pytest.skip("no make")
    return Path(tree) / "tools" / "testing" / "selftests" / "kvm"


def built(selftests: Path, text: str) -> Path:
    """Before 6.14 the directory of x86 was x86_64."""
    where = next(name for name in ("x86", "x86_64") if (selftests / name).is_dir())
    (selftests / where / "kvmwhy_repro.c").write_text(text)
    program = selftests / where / "kvmwhy_repro"
    program.unlink(missing_ok=True)
    only = [f"TEST_GEN_PROGS_{arch}={where}/kvmwhy_repro" for arch in ("x86", "x86_64")]
    none = [f"TEST_GEN_PROGS_EXTENDED_{arch}=" for arch in ("x86", "x86_64")]
    command = ["make", "-j2", "-C", str(selftests), "ARCH=x86_64", *only, *none, "SPLIT_TESTS=", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kvmwhy_repro.c:" not in done.stderr, done.stderr[-3000:]  # no warning
    return program


@pytest.mark.parametrize("name", ["avx-move-on-mmio", "jump-into-vga-window"])
def test_a_selftest_passes_where_the_failure_shows(kvm: type[KvmMachine], selftests: Path, name: str) -> None:  # noqa: ARG001
    """It passes on this KVM, which fails so; asked for another suberror, it fails and says what it got."""
    (found,) = read((EXAMPLES / f"{name}.log").read_bytes()).failures
    made = plan(found)
    assert isinstance(made, Plan)
    text = export("selftest", made, found)
    assert subprocess.run([built(selftests, text)], capture_output=True, check=False, timeout=60).returncode == 0
    wrong = text.replace("run->internal.suberror == 1", "run->internal.suberror == 2")
    assert wrong != text
    refused = subprocess.run([built(selftests, wrong)], capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode not in {0, 4}  # 4: skipped
    assert "run->internal.suberror == 2" in refused.stderr


FAULTS = [family for family in FAMILIES if family.arch == "x86"]


@pytest.mark.parametrize(
    "family", FAULTS if "KVMWHY_EVERY_FAULT" in os.environ else FAULTS[:1], ids=lambda family: family.id
)
def test_selftests_of_faults_are_built(selftests: Path, family: Family) -> None:
    """By the tree's own Makefile, without a warning. What they come to depends on the KVM: lab.faults runs the same."""
    assert built(selftests, write(family, "selftest")).exists()
