"""The tests of faults: they compile without a warning, as a program and as a selftest, and say what they found."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kvmwhy.emulator.faults import FAMILIES, Family
from kvmwhy.machine import KvmMachine
from kvmwhy.reproduce.export.fault_test import registers, write
from needs import missing
from reproduce.test_export import STUBS, compile_

X86 = [family for family in FAMILIES if family.arch == "x86"]
# What these selftests use besides.
MORE = """\
#include <errno.h>
int __vcpu_run(struct kvm_vcpu *vcpu);
#define pr_info(fmt, ...) printf(fmt, ##__VA_ARGS__)
"""


def named(family: Family) -> str:
    return family.id


@pytest.mark.parametrize("family", X86, ids=named)
def test_the_program_compiles(cc: str, tmp_path: Path, family: Family) -> None:
    """One file that needs <linux/kvm.h> and a libc."""
    source = tmp_path / "test.c"
    source.write_text(write(family, "c"))
    compile_(cc, source, "-c", "-o", "/dev/null")


@pytest.mark.parametrize("family", X86, ids=named)
def test_the_selftest_fits_the_kernels_interfaces(cc: str, tmp_path: Path, family: Family) -> None:
    """Against the signatures of kvm_util.h and processor.h."""
    for header in ("test_util.h", "kvm_util.h", "processor.h"):
        (tmp_path / header).write_text(STUBS + MORE)
    source = tmp_path / "test.c"
    source.write_text(write(family, "selftest"))
    compile_(cc, source, "-I", tmp_path, "-c", "-o", "/dev/null")


def test_the_program_of_riscv64_compiles(tmp_path: Path) -> None:
    """With a compiler for riscv64, where there is one."""
    compiler = shutil.which("riscv64-linux-gnu-gcc")
    if compiler is None:
        missing("lab", "no riscv64-linux-gnu-gcc")
    (family,) = [family for family in FAMILIES if family.arch == "riscv64"]
    source = tmp_path / "test.c"
    source.write_text(write(family, "c"))
    compile_(compiler, source, "-c", "-o", "/dev/null")


@pytest.mark.parametrize("family", X86, ids=named)
def test_guests_end_where_they_should(family: Family) -> None:
    """Each starts at its instruction, and what it should leave behind is within what is compared."""
    for guest in family.guests:
        start, end = registers(guest)
        assert start.rip + len(guest.code) <= end.rip or guest.end.get("rip"), guest.text
        mask, value = guest.flags
        assert value & ~mask == 0
        for at, data in (guest.before, guest.after):
            assert -64 <= at <= at + len(data) <= 64


@pytest.mark.live
def test_it_says_whether_anything_can_be_told(kvm: type[KvmMachine], cc: str, tmp_path: Path) -> None:  # noqa: ARG001
    """On this host's KVM, whatever it is: 1 with a guest that is wrong, 0 with none, 2 where no control is right."""
    (family,) = [family for family in FAMILIES if family.id == "mmio-stores-lost"]
    source = tmp_path / "test.c"
    source.write_text(write(family, "c"))
    compile_(cc, source, "-o", tmp_path / "test")
    done = subprocess.run([tmp_path / "test"], capture_output=True, text=True, check=False, timeout=60)
    last = done.stdout.splitlines()[-1]
    if done.returncode == 2:
        assert last.startswith("nothing can be told")
    else:
        assert last == f"{last.split()[0]} wrong of {last.split()[3]} that the CPU does right"
        assert (done.returncode == 1) is (last.split()[0] != "0")
