"""What is explained of a report does not depend on what stands around it, nor on the command that reads it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from kvmwhy import fleet
from kvmwhy.cli.main import kvmwhy
from kvmwhy.pipeline import records
from kvmwhy.record import At, Failure, Source
from pipeline.texts import NO_CORPUS, own, public
from samples import sample

FILLER = {
    "plain lines": b"lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam\n",
    "a daemon's": b"2026-01-02T03:04:05Z some daemon: all is well, request served\n",
}
SIZE = 5 << 18  # more than the pipeline reads at once, and than it keeps of what it has read


def amid(text: bytes, filler: bytes, size: int) -> dict[str, bytes]:
    """The report in front of other lines, behind them, and between."""
    others = filler * (size // len(filler))
    text = text if text.endswith(b"\n") else text + b"\n"
    return {"behind": others + text, "in front": text + others, "between": others + text + others}


def chunks_of(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), 1 << 20):
        yield data[at : at + (1 << 20)]


def placeless(failure: Failure) -> Failure:
    """A failure without where and when it was seen, who wrote the lines, and what was repaired around it."""
    events = tuple(replace(event, at=At(), time=None) for event in failure.host.events)
    host = replace(failure.host, events=events)
    source = Source(vmm=failure.source.vmm, vcpu=failure.source.vcpu)
    bare: Failure = replace(failure, source=source, seen_at={}, trace=(), host=host, repairs=())
    return bare


def told(data: bytes) -> list[Failure]:
    return [placeless(record.failure) for record in records(chunks_of(data))]


@pytest.mark.parametrize(("name", "filler"), sample(((name, filler) for name in [*own()][::6] for filler in FILLER), 3))
def test_a_fixture_amid_other_lines(name: str, filler: str) -> None:
    """More than a MiB of other lines in front, behind and between: the same records."""
    text = own()[name]
    wanted = told(text if text.endswith(b"\n") else text + b"\n")
    for data in amid(text, FILLER[filler], SIZE).values():
        assert told(data) == wanted


@pytest.mark.skipif(not public(), reason=NO_CORPUS)
def test_public_reports_amid_other_lines() -> None:
    """A sample of them; tools/mangle.py takes all."""
    for name, text in list(public().items())[::25]:
        data = amid(text, FILLER["plain lines"], SIZE)["between"]
        assert told(data) == told(text if text.endswith(b"\n") else text + b"\n"), name


def explained(path: Path) -> list[dict[str, Any]]:
    out = CliRunner().invoke(kvmwhy, ["explain", "--json", "--limit", "1000", str(path)]).stdout
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("name", sample([*own()][::12], 2))
def test_explain_and_scan_see_the_same(tmp_path: Path, name: str) -> None:
    """Of a small file and of a large one: as many failures, of the same kinds, with the same numbers and RIPs."""
    text = own()[name]
    for size in (0, SIZE):
        path = tmp_path / f"{size}.log"
        path.write_bytes(amid(text, FILLER["plain lines"], size)["between"])
        rows = [(r.kind, r.suberror, r.rip) for r in fleet.records([str(path)]) for _ in range(r.count)]
        found = [
            (item["kind"], item["suberror"], int(rip, 16) if (rip := (item["cpu"] or {}).get("rip")) else None)
            for item in explained(path)
            for _ in range(item["source"]["count"])
        ]
        assert sorted(map(repr, rows)) == sorted(map(repr, found))


def test_every_command_unpacks(tmp_path: Path) -> None:
    """A compressed log is read by explain, redact, reproduce and scan alike."""
    text = (own()["examples/avx-move-on-mmio.log"]) + FILLER["plain lines"] * 9
    path = tmp_path / "guest.log.gz"
    path.write_bytes(gzip.compress(text))
    assert len(explained(path)) == 1
    for command in ("redact", "reproduce", "scan"):
        result = CliRunner().invoke(kvmwhy, [command, *(["--on", "model"] * (command == "reproduce")), str(path)])
        assert "no KVM failure found" not in result.output
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("between", [", ", ","])
def test_a_message_that_journald_gives_as_numbers(between: str) -> None:
    """Systemd's JSON has a message with control characters as an array of bytes, whatever words are in it."""
    message = b"\x1b[31mioctl(KVM_CREATE_VM) failed: 16 Device or resource busy"
    numbers = between.join(str(byte) for byte in message)
    line = f'{{"_PID": "7", "MESSAGE": [{numbers}]}}\n'.encode()
    filler = FILLER["plain lines"] * 40_000
    (failure,) = told(filler + line + filler)
    assert (failure.kind, failure.errno) == ("setup-refused", "EBUSY")


def test_code_bytes_that_are_folded_are_not_lost(tmp_path: Path) -> None:
    """A mailer folds the line of the code bytes: a scan has the instruction as an explanation has."""
    text = own()["examples/avx-move-on-mmio.log"].decode()
    head, code = text.split("Code=")
    middle = code.index(" ", 60)
    (tmp_path / "mail").write_text(f"{head}Code={code[:middle]}\n{code[middle + 1 :]}")
    (row,) = fleet.records([str(tmp_path / "mail")])
    assert row.instruction == "vmovdqu ymm0,[rbx]"
    (item,) = explained(tmp_path / "mail")
    assert item["instruction"]["text"] == row.instruction
