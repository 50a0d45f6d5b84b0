"""Archives in archives come out as their files, in bounded memory, and damage ends nothing but itself."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.ingest.archives import UnpackBudget, members
from kvmwhy.ingest.zstd import zstd

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd().compress,
}
LOG = b"KVM: entry failed, hardware error 0x7\n" * 5000


def unpack(
    data: bytes, size: int = 777, limits: UnpackBudget | None = None
) -> tuple[list[tuple[str, bytes]], list[str]]:
    said: list[str] = []
    chunks: Iterator[bytes] = (data[at : at + size] for at in range(0, len(data), size))
    return [(m.path, b"".join(m.chunks)) for m in members(chunks, "in", said.append, limits)], said


def tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]  # the mode is a variable
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("special")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    return out.getvalue()


class Pipe(io.RawIOBase):
    """Cannot seek: zip then puts sizes behind the data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of bytes only
        self.data += data
        return len(data)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_file(kind: str) -> None:
    """One file, or several put together as rotation does, with padding behind; cut, what was there."""
    pack = PACKERS[kind]
    assert unpack(pack(LOG)) == ([("in", LOG)], [])
    assert unpack(pack(LOG) + pack(b"more") + bytes(512)) == ([("in", LOG + b"more")], [])
    ((_, part),), said = unpack(pack(LOG)[:-9])
    assert LOG.startswith(part)
    assert "ends early" in said[0]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar(mode: str) -> None:
    """Regular files only, in order."""
    assert unpack(tar({"a/1": LOG, "a/2": b""}, mode)) == ([("in:a/1", LOG), ("in:a/2", b"")], [])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("piped", [False, True])
def test_a_zip(method: int, piped: bool) -> None:
    """By its local headers, seekable or not; what cannot be told from them is named and left out."""
    out: Pipe | io.BytesIO = Pipe() if piped else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("1.log", LOG)
        archive.writestr("2.log", b"two")
    data = bytes(out.data) if isinstance(out, Pipe) else out.getvalue()
    found, said = unpack(data)
    if method == zipfile.ZIP_LZMA or (piped and method == zipfile.ZIP_STORED):
        assert found == []
        assert "is not read" in said[0]
    else:
        assert (found, said) == ([("in:1.log", LOG), ("in:2.log", b"two")], [])


def test_one_in_another() -> None:
    """A zip of a tar.gz of a log.xz; a deeper one is named."""
    inner = gzip.compress(tar({"x.log.xz": lzma.compress(LOG)}))
    assert unpack(inner) == ([("in:x.log.xz", LOG)], [])
    deep = LOG
    for _ in range(6):
        deep = gzip.compress(deep)
    found, said = unpack(deep)
    assert found == []
    assert "nested" in said[0]


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_stopped(kind: str) -> None:
    """What came out before the limit is kept, and one sentence says so."""
    ((_, data),), said = unpack(PACKERS[kind](bytes(8 << 20)), 1 << 16, UnpackBudget(ratio=50, free=1 << 20))
    assert 1 << 19 <= len(data) <= 2 << 20
    assert said == ["in: it unpacks to more than 50 times its size; the rest is not read"]


def test_many_members_and_all_of_them_bombs() -> None:
    """The limits are one input's, not one member's."""
    many = tar({str(n): b"" for n in range(50)})
    found, said = unpack(many, limits=UnpackBudget(members=10))
    assert len(found) == 10
    assert "too many members" in said[0]
    bombs = tar({str(n): gzip.compress(bytes(2 << 20)) for n in range(20)})
    found, said = unpack(bombs, limits=UnpackBudget(ratio=20, free=1 << 20))
    assert sum(len(data) for _, data in found) <= 4 << 20
    assert len(said) == 1


def test_an_encrypted_member_does_not_hide_the_next() -> None:
    """It is named; the others are read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", LOG)
        archive.writestr("b", b"two")
    data = bytearray(out.getvalue())
    data[6] |= 1
    found, said = unpack(bytes(data))
    assert found == [("in:b", b"two")]
    assert said == ["in:a: it is encrypted; it is not read"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["gz", "bz2", "xz", "zst", "tar", "zip"]), st.data())
def test_any_damage_raises_nothing(kind: str, data: st.DataObject) -> None:
    """Bytes changed, cut or added anywhere."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", LOG)
    whole = {"tar": tar({"a": LOG[:900]}), "zip": out.getvalue()}.get(kind) or PACKERS[kind](LOG)
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 5))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    unpack(bytes(broken[:cut]) + data.draw(st.binary(max_size=20)))


@given(st.binary(max_size=2000))
def test_any_bytes_come_back(data: bytes) -> None:
    """What is no archive is itself."""
    found, said = unpack(data, 50)
    if (
        not said
        and len(found) == 1
        and found[0][0] == "in"
        and data[:2] not in {b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5"}
    ):
        assert found[0][1] == data
