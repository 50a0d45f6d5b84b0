"""What every command shares: a file in place of a command, help, colour and quiet; and how `cause` finds entries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = Path(__file__).parents[1] / "fixtures" / "lab-svm" / "qemu-6.1" / "long64-vmovdqu" / "qemu.log"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "TERM"}}


def kvmwhy(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvmwhy", *args],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        check=False,
        timeout=60,
    )


def test_a_file_alone_is_explained() -> None:
    """`kvmwhy FILE` prints what `kvmwhy explain FILE` prints, with the same options."""
    assert kvmwhy(str(GOOD), "--brief").stdout == kvmwhy("explain", str(GOOD), "--brief").stdout != ""
    gone = kvmwhy("no-such-file.log")
    assert (gone.returncode, gone.stderr) == (2, "kvmwhy: no-such-file.log: no such file or directory\n")
    assert "no such command 'explian'" in kvmwhy("explian").stderr


def test_help_of_a_command_is_its_help() -> None:
    """`kvmwhy help X` is `kvmwhy X --help`; of no command, the list of them."""
    assert kvmwhy("help", "atlas").stdout == kvmwhy("atlas", "--help").stdout
    assert kvmwhy("help").stdout == kvmwhy("--help").stdout
    wrong = kvmwhy("help", "atlass")
    assert wrong.returncode == 2
    assert "no such command 'atlass'" in wrong.stderr
    assert kvmwhy("-V").stdout == kvmwhy("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "styled"),
    [
        ((), {}, False),
        (("--color", "always"), {}, True),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (("--color", "never"), {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_in_a_pipe(arguments: tuple[str, ...], environment: dict[str, str], styled: bool) -> None:
    """--color goes before the environment, and stands before or behind the command's name."""
    for order in ((*arguments, "explain"), ("explain", *arguments)):
        assert ("\x1b[" in kvmwhy(*order, str(GOOD), **environment).stdout) == styled


def test_quiet_leaves_stderr_empty() -> None:
    """With -q only the exit status tells."""
    for order in (("-q", "explain"), ("explain", "-q")):
        result = kvmwhy(*order, "no-such-file.log")
        assert (result.returncode, result.stderr) == (2, "")


def test_words_find_entries_of_the_catalogue() -> None:
    """All words must be there; an id is found whatever its case; nothing found is status 1."""
    listed = kvmwhy("cause", "smm", "nested").stdout
    assert "nested-svm-smm" in listed
    assert "memslot-race" not in listed
    assert kvmwhy("cause", "FETCH-non-ram").stdout == kvmwhy("cause", "fetch-non-ram").stdout
    assert kvmwhy("cause", "emulator-gap").stdout.count("bug-emulator") > 5
    assert kvmwhy("cause", "qqq").returncode == 1


@pytest.mark.parametrize("by", ["family", "mechanism", "origin"])
def test_the_list_in_another_order_is_the_same_list(by: str) -> None:
    """Each cause stands once under some heading."""
    from kvmwhy.diagnosis import catalogue

    listed = [line.split()[0] for line in kvmwhy("cause", "--by", by).stdout.splitlines() if line.startswith("  ")]
    assert set(catalogue()) <= set(listed)


def test_the_catalogue_as_json() -> None:
    """One object a line, the bug's origin in it."""
    (entry,) = map(json.loads, kvmwhy("cause", "--json", "bug-emulator-avx-moves").stdout.splitlines())
    assert (entry["kind"], entry["origin"], entry["family"]) == ("bug", "host-kernel", "emulator-gap")
    everything = [json.loads(line) for line in kvmwhy("cause", "--json").stdout.splitlines()]
    assert {"mechanism", "origin", "number", "cause", "bug"} == {entry["kind"] for entry in everything}


def test_ids_are_completed() -> None:
    """The shell's completion knows the ids."""
    completed = kvmwhy(_KVMWHY_COMPLETE="bash_complete", COMP_WORDS="kvmwhy cause fetch-", COMP_CWORD="2").stdout
    assert "plain,fetch-non-ram" in completed.splitlines()
