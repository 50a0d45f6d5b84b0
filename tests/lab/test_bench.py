"""lab.boot and lab.kernels: what can be told without a boot; and, where a lab is set up, a boot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lab import architectures, benches, boot, capture_arm64, command, initramfs, kernels, run
from lab.outcome import INTERNAL_ERROR, load
from lab.ready import NotReadyError, kernels_for, work_directory
from needs import missing


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
    subprocess.run(["cpio", "-id", "--quiet"], input=initramfs.pack(files), cwd=tmp_path, check=True)
    for name, data in files.items():
        assert (tmp_path / name).read_bytes() == data
        assert os.access(tmp_path / name, os.X_OK)


def test_initramfs_of_a_directory(tmp_path: Path) -> None:
    """A root file system keeps its links and modes; directories and links stand before what is reached through them."""
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"x")
    (root / "bin").symlink_to("usr/bin")
    packed = initramfs.pack({"bin/busybox": b"y"}, root)
    assert packed.index(b"usr/bin\0") < packed.index(b"bin\0\0\0usr/bin") < packed.index(b"bin/busybox\0")
    if shutil.which("cpio") is None:
        pytest.skip("no cpio to check with")
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run(["cpio", "-id", "--quiet"], input=packed, cwd=target, check=True)
    assert (target / "bin").is_symlink()
    assert (target / "usr/bin/busybox").read_bytes() == b"y"
    assert not os.access(target / "usr/bin/tool", os.X_OK)


def test_a_boot_without_an_end() -> None:
    """The last case that was announced is known; an output that was torn is an error of its own."""
    where = Path("serial.txt")
    with pytest.raises(command.StoppedError, match="it stopped") as stopped:
        command.understand("@@init 1\n@@case 0\n@@case 256\nnoise", 1.0, where)
    assert boot.last_case(stopped.value.text) == 256
    with pytest.raises(benches.BenchError, match="torn"):
        command.understand("@@init 1\n@@output\nzz\n@@end\n", 1.0, where)


def test_status_of_a_fetch() -> None:
    """What a mirror has not is one thing, what goes wrong here another, and the worse one counts."""
    done, missing, failed = (kernels.Step(result, "") for result in ("done", "not to be had", "failed"))
    assert kernels.status_of([done]) == 0
    assert kernels.status_of([done, missing]) == kernels.MISSING
    assert kernels.status_of([missing, failed]) == 1


def test_a_mirror_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said, and is status 4; a program that is missing is no such thing."""
    if shutil.which("apt-get") is None or not Path(kernels.KEYRING).exists():
        pytest.skip("no apt with Debian's keys")
    arguments = ["--kernel", "6.1", "--work", str(tmp_path), "--mirror", "http://127.0.0.1:9"]
    assert run.main(["fetch", *arguments]) == 4
    assert "6.1: no suite" in capsys.readouterr().err


def test_nothing_fetched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty work directory is exit status 3 and says what to do."""
    if benches.missing("svm"):
        pytest.skip("no QEMU")
    assert run.main(["svm", "--work", str(tmp_path)]) == 3
    assert "fetch" in capsys.readouterr().err


def test_a_kernel_that_was_not_fetched_whole(tmp_path: Path) -> None:
    """A module or busybox that is not there is the bench's error, and names what it is."""
    kernel(tmp_path, "6.12.1-riscv64")
    (there,) = kernels.fetched(tmp_path, architectures.RISCV64)
    with pytest.raises(benches.BenchError, match="busybox"):
        benches.first_process("riscv64", there, b"", tmp_path, {})
    (there.directory / "kvm.ko").unlink()
    with pytest.raises(benches.BenchError, match=r"6\.12\.1-riscv64: no module kvm"):
        benches.first_process("riscv64", there, b"", tmp_path, {})


def test_what_is_missing_comes_with_the_command_that_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs before kernels; those of another architecture are fetched by its name."""
    monkeypatch.setattr(benches, "missing", lambda _: {"qemu-system-arm": "qemu-system-arm", "gcc": "gcc"})
    with pytest.raises(NotReadyError, match=r"no qemu-system-arm, gcc: apt-get install .* qemu-system-arm gcc$"):
        kernels_for("arm64", tmp_path, [])
    monkeypatch.setattr(benches, "missing", lambda _: {})
    for wanted, fetch, words in (
        ([], "", "run `python lab/run.py fetch arm64` first"),
        ([], "python -m lab.self_test arm64 --fetch", "run `python -m lab.self_test arm64 --fetch` first"),
        (["7.3"], "", "no kernel 7.3 for arm64"),
    ):
        with pytest.raises(NotReadyError, match=words):
            kernels_for("arm64", tmp_path, wanted, fetch=fetch)
    kernel(tmp_path, "6.12.1-cloud-arm64")
    assert [each.release for each in kernels_for("arm64", tmp_path, ["6.12"])] == ["6.12.1-cloud-arm64"]


@pytest.mark.parametrize("arguments", [[], ["--kernel", "7.3"]])
def test_a_capture_without_a_kernel(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the command that fetches one, and status 3."""
    monkeypatch.setenv("KVMWHY_LAB", str(tmp_path))
    monkeypatch.setattr(benches, "missing", lambda _: {})
    assert capture_arm64.main(arguments) == 3
    written = capsys.readouterr().err
    assert "fetch" in written
    assert written.count("\n") == 1


@pytest.mark.lab
@pytest.mark.skipif("KVMWHY_LAB" not in os.environ, reason="KVMWHY_LAB is not set")
def test_boot(tmp_path: Path) -> None:
    """A fetched kernel boots under QEMU, runs the fetch cases on kvm-amd and says which kernel it was."""
    fetched = kernels.fetched(work_directory())
    if not fetched:
        missing("lab", "no kernel of x86 was fetched")
    newest = fetched[-1]
    arguments = ["--kernel", newest.release, "--only", "long64/0/stock/fetch", "--results", str(tmp_path)]
    assert run.main(["svm", *arguments]) == 0
    (path,) = tmp_path.iterdir()
    head, outcomes = load(path)
    assert (head.vendor, head.release) == ("svm", newest.release)
    assert outcomes["long64/0/stock/fetch/jmp"].exits[0].reason == INTERNAL_ERROR


@pytest.mark.lab
@pytest.mark.skipif("KVMWHY_LAB" not in os.environ, reason="KVMWHY_LAB is not set")
@pytest.mark.parametrize("name", ["arm64", "riscv64"])
def test_command_elsewhere(name: str, tmp_path: Path) -> None:
    """A command that runs in another architecture's machine has /dev/kvm there, and its status and output come back."""
    architecture = architectures.ARCHITECTURES[name]
    fetched = kernels.fetched(work_directory(), architecture)
    if not fetched or benches.missing(name):
        missing("lab", f"no kernel of {name}, or no machine for it")
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data/here").write_text("from the root\n")
    output = command.run(
        *(name, fetched[0], "cat /data/here; test -c /dev/kvm && uname -r; exit 3", work_directory()),
        root=root,
    )
    assert output.data.decode() == f"from the root\n{fetched[0].release}\n"
    assert output.status == 3
