"""A file is written whole or not at all, by every command that makes one."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from kvmwhy.whole_file import is_replaceable, replacing, write_whole

ROOT = Path(__file__).parent.parent
LOG = ROOT / "examples" / "avx-move-on-mmio.log"
TRACE = ROOT / "tests" / "fixtures" / "truths-lab" / "svm-6.1" / "triple-pf" / "trace.txt"
HALF = """
import sys, time
from kvmwhy.whole_file import replacing
with replacing(sys.argv[1], durable=True) as out:
    out.write(b"new" * 100_000)
    out.flush()
    print("half", flush=True)
    time.sleep(600)
"""


def kvmwhy(*words: str, most: int | None = None, out: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
    """The command, which may write files of ``most`` bytes: the kernel's answer to more is EFBIG."""

    def confine() -> None:
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    command = [sys.executable, "-m", "kvmwhy", *words]
    return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False, preexec_fn=confine)


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    """Amid the writing."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with subprocess.Popen([sys.executable, "-c", HALF, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
    assert path.read_bytes() == b"old"
    assert write_whole(str(path), [b"n", b"ew"], durable=True) == 3
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("explain", str(LOG), "--html"), "a.html"),
        (("atlas", "--html"), "a.html"),
        (("timeline", str(TRACE), "--out"), "a.pftrace"),
        (("scan", str(LOG), "--out"), "a.jsonl"),
    ],
    ids=["explain", "atlas", "timeline", "scan"],
)
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, words: tuple[str, ...], name: str) -> None:
    """The command says which file it could not write; no draft is left."""
    path = tmp_path / name
    path.write_bytes(b"old")
    ran = kvmwhy(*words, str(path), most=100)
    assert ran.returncode != 0
    complaint = ran.stderr.decode()
    assert os.strerror(errno.EFBIG).lower() in complaint.lower()
    assert "Traceback" not in complaint
    assert ".kvmwhy-" not in complaint
    assert path.read_bytes() == b"old"
    assert [each for each in os.listdir(tmp_path) if each.startswith(".")] == []


def test_an_interrupt_leaves_the_old_file(tmp_path: Path) -> None:
    """As whatever else is raised while the content is made."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupted() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(str(path), interrupted())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_name_in_an_error_is_the_users(tmp_path: Path) -> None:
    """And not that of the draft, where there is no folder, and where the name is a folder's."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "none" / "a", tmp_path / "folder"):
        with pytest.raises(OSError, match=path.name) as failed:
            write_whole(str(path), [b"new"])
        assert failed.value.filename == str(path)


def test_what_is_no_file_stays(tmp_path: Path) -> None:
    """A pipe is written to; /dev/stdout, a link to what the shell has opened, is no name to put a file at."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(Path(pipe).read_bytes()))
    reader.start()
    write_whole(pipe, [b"new"])
    reader.join()
    assert heard == [b"new"]
    assert not is_replaceable("/dev/null")
    assert not is_replaceable("/dev/stdout")
    before = os.readlink("/dev/stdout")
    with (tmp_path / "out").open("wb") as out:
        assert kvmwhy("explain", str(LOG), "--html", "/dev/stdout", out=out).returncode == 0
    assert (tmp_path / "out").read_text().startswith("<!doctype html>")
    assert os.readlink("/dev/stdout") == before


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """In a folder of everybody's, who made the link does not choose what is written over."""
    (tmp_path / "other").write_bytes(b"old")
    (tmp_path / "a").symlink_to("other")
    write_whole(str(tmp_path / "a"), [b"new"])
    assert ((tmp_path / "other").read_bytes(), (tmp_path / "a").read_bytes()) == (b"old", b"new")


def test_permissions_are_the_umasks(tmp_path: Path) -> None:
    """Or the owner's alone, where that is asked; then nobody else's pipe gets the content."""
    old = os.umask(0o027)
    try:
        write_whole(str(tmp_path / "a"), [b"new"])
        with replacing(str(tmp_path / "b"), private=True) as out:
            out.write(b"new")
    finally:
        os.umask(old)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640, 0o600]
    os.mkfifo(tmp_path / "c")
    with pytest.raises(FileExistsError), replacing(str(tmp_path / "c"), private=True):
        pass
