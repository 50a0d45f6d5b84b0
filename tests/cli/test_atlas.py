"""kvmwhy atlas, from the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from kvmwhy.cli.main import kvmwhy


def atlas(*arguments: str) -> Result:
    return CliRunner().invoke(kvmwhy, ["atlas", *arguments])


def test_by_text() -> None:
    """An instruction's text is found whatever its registers, and the change is dated by the source as well."""
    result = atlas("MOVNTDQA xmm5, xmmword ptr [rdi+8]")
    assert result.exit_code == 0
    assert "carried out: reads 8 + 8 bytes" in result.output
    assert "changed between 6.18 and 7.2" in " ".join(result.output.split())
    assert "since Linux 6.19" in result.output


def test_by_bytes() -> None:
    """Bytes are looked up as they are, in the mode that is asked for."""
    result = atlas("--bytes", "d9 47 10", "--mode", "prot32")
    assert result.exit_code == 0
    assert "suberror 1, on every measured kernel" in " ".join(result.output.split())


def test_json() -> None:
    """One object per form: the measured bytes, and a verdict for each kernel."""
    result = atlas("--bytes", "660f382a07", "--json")
    row = json.loads(result.output)
    assert row["measured"] == "66 0f 38 2a 13"
    assert row["exact"] is False
    by_release = {one["release"].split("-")[0]: one["verdict"] for one in row["kernels"] if one["vendor"] == "svm"}
    assert by_release["5.10.0"] == "fails"
    assert by_release["7.3.4+deb13"] == "emulated"


def test_between() -> None:
    """A kernel that was not measured gets both neighbours, not a guess."""
    said = " ".join(atlas("--bytes", "c5fe6f07", "--kernel", "6.19.3").output.split())
    assert "Not measured on this kernel; it changed between 6.18" in said


def test_since() -> None:
    """Only the one line per form."""
    result = atlas("movbe", "--since")
    assert "between 6.1 (not yet) and 6.12" in result.output
    assert "5.10 or older" in result.output


def test_diff() -> None:
    """Between 6.1 and 6.12 it is 16-bit MOVBE, and nothing else."""
    result = atlas("--diff", "6.1", "6.12", "--json")
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert rows
    assert all(row["text"].startswith("movbe") for row in rows)
    assert atlas("--diff", "6.1", "6.1").exit_code == 1


def test_overview() -> None:
    """Without an argument: the kernels."""
    assert "5.10.0-46" in atlas().output
    assert json.loads(atlas("--json").output.splitlines()[0])["release"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--bytes", "xyz"], 2),
        (["--bytes", ""], 1),
        (["--bytes", "66"], 1),
        (["frobnicate"], 1),
        (["\x1b[31m"], 1),
        (["--diff", "6.1", "9.9"], 2),
    ],
)
def test_refusals(arguments: list[str], status: int) -> None:
    """What cannot be answered is said in one line, with nothing that a terminal would act on."""
    result = atlas(*arguments)
    assert result.exit_code == status
    assert "\x1b" not in result.output


def test_arm64_by_text_and_by_word() -> None:
    """Arm's manual: a pair has no syndrome, one register without write-back has."""
    pair = atlas("--arch", "arm64", "ldp x0, x1, [x2]")
    assert pair.exit_code == 0
    assert "fails with ENOSYS" in pair.output
    alone = atlas("--arch", "arm64", "--bytes", "f9400003", "--json")
    assert json.loads(alone.output) == {"instruction": "f9400003", "form": "one register", "syndrome": True}
    in_memory = atlas("--arch", "arm64", "--bytes", "03 00 40 f9", "--json")
    assert json.loads(in_memory.output)["form"] == "one register"


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--bytes", "xyz"], 2), ([], 2), (["add x0, x1, x2"], 1), (["--bytes", "123456789"], 2)]
)
def test_arm64_refusals(arguments: list[str], status: int) -> None:
    """One sentence, and the exit status that its kind has."""
    refused = atlas("--arch", "arm64", *arguments)
    assert refused.exit_code == status
    assert refused.stderr.count("\n") == 1
