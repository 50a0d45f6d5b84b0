"""What the live tests of capture need: KVM, a C compiler, a tracefs of their own; or the reason why they skip."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from guests import qemu
from needs import missing

SOURCE = Path(__file__).parent / "vmm.c"


@pytest.fixture(scope="session")
def vmm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The VMM of vmm.c, compiled."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        missing("live", "no /dev/kvm that may be used")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        missing("live", "no C compiler")
    program = tmp_path_factory.mktemp("vmm") / "vmm"
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", program, SOURCE], check=True)
    return program


@pytest.fixture(scope="session")
def tracefs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount of tracefs that is ours alone. Only root can have one, so only root's runs can require it."""
    if os.geteuid() != 0:
        pytest.skip("mounting tracefs takes root")
    where = tmp_path_factory.mktemp("tracefs")
    mounted = subprocess.run(["mount", "-t", "tracefs", "nodev", where], capture_output=True, text=True, check=False)
    if mounted.returncode:
        missing("live", f"tracefs cannot be mounted: {mounted.stderr.strip()}")
    try:
        if not (where / "events" / "kvm" / "kvm_userspace_exit").is_dir():
            missing("live", "this kernel has no KVM events in tracefs")
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: a QEMU's monitor is a socket in it."""
    if reason := qemu.unavailable():
        missing("live", reason)
    with tempfile.TemporaryDirectory(prefix="kvmwhy-") as name:
        yield Path(name)
