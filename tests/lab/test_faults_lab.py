"""lab.faults: kernels are booted again, and each family's program prints what was kept of it."""

from __future__ import annotations

import os

import pytest

from lab import benches, faults, kernels
from lab.ready import work_directory
from needs import missing

# Booted each time; with KVMWHY_EVERY_FAULT the others as well: Bochs takes minutes.
NEWEST = [("svm", "7.3")]
OTHERS = [("svm", "5.10"), ("svm", "6.1"), ("riscv64", "6.12"), ("vmx", "7.3")]


@pytest.mark.lab
@pytest.mark.parametrize(("bench", "series"), NEWEST + OTHERS)
def test_run_again(bench: str, series: str) -> None:
    """The same status and the same text, to the letter: a KVM that has become right fails this, and is good news."""
    if "KVMWHY_LAB" not in os.environ:
        pytest.skip("KVMWHY_LAB is not set")
    if (bench, series) in OTHERS and "KVMWHY_EVERY_FAULT" not in os.environ:
        pytest.skip("KVMWHY_EVERY_FAULT is not set")
    if lacks := benches.missing(bench):
        missing("lab", f"no {', '.join(lacks)}")
    work = work_directory()
    try:
        (kernel,) = kernels.choose(work, [series], benches.BENCHES[bench].architecture)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    kept = [one for one in faults.kept() if one.vendor == bench and kernels.series_of(one.release) == series]
    results = faults.run(bench, kernel, work)
    assert kept, f"no results of {bench} {series} are kept"
    for name, ran in results.families.items():
        assert (ran.status, ran.printed) == (kept[-1].families[name].status, kept[-1].families[name].printed), name
