"""lab.boot and lab.kernels: what can be told without a boot; and, where a lab is set up, a boot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import boot, kernels, run
from lab.outcome import INTERNAL_ERROR, load


def kernel(work: Path, release: str) -> None:
    directory = work / "kernels" / release
    directory.mkdir(parents=True)
    (directory / "complete").touch()
    for name, depends in (("irqbypass", ""), ("kvm", "irqbypass"), ("kvm-amd", "kvm")):
        (directory / f"{name}.ko").write_bytes(b"\0license=GPL\0depends=" + depends.encode() + b"\0")


def test_newest_of_each_series(tmp_path: Path) -> None:
    """Point releases are sorted as numbers; a series means its newest."""
    for release in ("6.12.43+deb13-cloud-amd64", "6.12.117+deb13-cloud-amd64", "5.10.0-46-cloud-amd64"):
        kernel(tmp_path, release)
    chosen = kernels.choose(tmp_path, [])
    assert [k.release.split("+")[0] for k in chosen] == ["5.10.0-46-cloud-amd64", "6.12.117"]
    assert kernels.choose(tmp_path, ["6.12"]) == chosen[1:]
    assert kernels.choose(tmp_path, ["6.12.43+deb13-cloud-amd64"])[0].release.startswith("6.12.43")
    with pytest.raises(FileNotFoundError, match="run `fetch"):
        kernels.choose(tmp_path, ["7.3"])


def test_modules_in_the_order_of_insmod(tmp_path: Path) -> None:
    """Dependencies first, whichever way the file spells the name."""
    kernel(tmp_path, "6.1.0-1-cloud-amd64")
    (found,) = kernels.fetched(tmp_path)
    assert [path.stem for path in found.modules("kvm_amd")] == ["irqbypass", "kvm", "kvm-amd"]


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio to check with")
def test_initramfs_is_cpio(tmp_path: Path) -> None:
    """Another program reads back what the kernel is given."""
    files = {"init": b"#!/bin/sh\n", "bin/tool": b"\x7fELF" * 9, "modules/kvm-amd.ko": b"x"}
    subprocess.run(["cpio", "-id", "--quiet"], input=boot._cpio(files), cwd=tmp_path, check=True)
    for name, data in files.items():
        assert (tmp_path / name).read_bytes() == data
        assert os.access(tmp_path / name, os.X_OK)


def test_nothing_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty work directory is exit status 3 and says what to do."""
    if boot.missing("svm"):
        pytest.skip("no QEMU")
    assert run.main(["svm", "--work", str(tmp_path)]) == 3
    assert "fetch" in capsys.readouterr().err


@pytest.mark.lab
@pytest.mark.skipif("KVMWHY_LAB" not in os.environ, reason="KVMWHY_LAB is not set")
def test_boot(tmp_path: Path) -> None:
    """A fetched kernel boots under QEMU, runs the fetch cases on kvm-amd and says which kernel it was."""
    newest = kernels.fetched(run.work_directory())[-1]
    arguments = ["--kernel", newest.release, "--only", "long64/0/stock/fetch", "--results", str(tmp_path)]
    assert run.main(["svm", *arguments]) == 0
    (path,) = tmp_path.iterdir()
    head, outcomes = load(path)
    assert (head.vendor, head.release) == ("svm", newest.release)
    assert outcomes["long64/0/stock/fetch/jmp"].exits[0].reason == INTERNAL_ERROR
