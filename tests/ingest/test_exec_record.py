"""The file of `kvmwhy exec --record`: its failures are read, and what they were made from only if there are none."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from kvmwhy.pipeline import records

LOG = b"KVM internal error. Suberror: 3\nextra data[0]: 0x0000000080000b0e\nextra data[1]: 0x0000000000000031\n"
LINE = json.dumps({"schema": 2, "kind": "internal-error", "suberror": 1, "data": []}).encode() + b"\n"
MEMBERS = {"manifest.json": b"{}", "failures.jsonl": LINE, "stderr.log": LOG, "pages/7-vcpu0.page": bytes(4096)}


def archive(members: dict[str, bytes], root: str = "kvmwhy-exec", form: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=form) as tar:  # type: ignore[call-overload]  # "w" or "w:gz"
        for name, data in members.items():
            info = tarfile.TarInfo(f"{root}/{name}" if root else name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def suberrors(data: bytes) -> list[int]:
    found = [record.failure.suberror for record in records((data,), "run.tar")]
    return [number for number in found if number is not None]  # none in a page of zeros


@pytest.mark.parametrize("form", ["w", "w:gz"])
def test_one_failure_is_read_once(form: str) -> None:
    """The log and the page of a failure are in its record already."""
    assert suberrors(archive(MEMBERS, form=form)) == [1]


def test_without_failures_all_is_read() -> None:
    """A run of which nothing was captured: its log may tell."""
    assert suberrors(archive({**MEMBERS, "failures.jsonl": b""})) == [3]


def test_other_archives_are_read_whole() -> None:
    """A tar that only looks a little like one: every file counts; so does what stands beside a record."""
    assert sorted(suberrors(archive(MEMBERS, root="logs"))) == [1, 3]
    both = archive({**{f"kvmwhy-exec/{name}": data for name, data in MEMBERS.items()}, "other/guest.log": LOG}, root="")
    assert sorted(suberrors(both)) == [1, 3]


def test_a_record_that_is_cut_off() -> None:
    """At every length: no error, and never the same failure twice."""
    whole = archive(MEMBERS)
    for size in range(0, len(whole), 193):
        assert suberrors(whole[:size]).count(1) <= 1
