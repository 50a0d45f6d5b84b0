"""What goes into a bug tracker or a workflow's log: the answer, and no markup or command of a log."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.cli.main import kvmwhy
from kvmwhy.diagnosis import diagnose
from kvmwhy.readers import read
from kvmwhy.record import Failure, Source
from kvmwhy.render.markdown import annotation, markdown

GOOD = Path(__file__).parents[1] / "fixtures" / "lab-svm" / "qemu-6.1" / "long64-vmovdqu" / "qemu.log"


def test_the_answer_is_the_heading_and_the_code_is_fenced() -> None:
    """GitHub's Markdown: a heading, a fenced block, a table of origins, a list of fixes."""
    text = CliRunner().invoke(kvmwhy, ["explain", "--markdown", str(GOOD)]).output
    assert text.startswith("### KVM's emulator has no handler for \\`vmovdqu ymm0,\\[rbx\\]\\`")
    fenced = text.split("```")
    assert len(fenced) == 3
    assert "> 0x8086" in fenced[1]
    assert "| the host's kernel |" in text
    assert "* **Host's operator:** Update" in text


def test_one_annotation_for_each_failure() -> None:
    """A workflow command, as GitHub's runner reads it."""
    (line,) = CliRunner().invoke(kvmwhy, ["explain", "--github", str(GOOD)]).output.splitlines()
    assert line.startswith("::error file=")
    assert ",line=1,title=emulation-no-handler::KVM's emulator has no handler" in line


@given(st.text(max_size=60))
def test_no_file_name_is_a_command(name: str) -> None:
    """Line ends, colons and commas of a name do not end the command or start another."""
    failure = Failure(kind="run-error", errno="EFAULT", source=Source(path=name, line=3))
    line = annotation(diagnose(failure))
    assert "\n" not in line
    assert line.count("::") == 2
    assert line.split("::")[1].count(",") == (2 if name else 1)


@given(st.sampled_from(["# h", "![x](http://x)", "<img src=x>", "@someone", "```", "|a|b|", "[a](b)", "**b**"]))
def test_no_register_dump_is_markup(text: str) -> None:
    """What a VMM is called, or printed, is not Markdown's."""
    log = GOOD.read_text().replace("KVM internal error", f"{text}\nKVM internal error", 1)
    for failure in read(log.encode(), path=text).failures:
        made = markdown(diagnose(failure))
        outside = "".join(made.split("```")[::2]) if made.count("```") == 2 else made
        assert not re.search(r"(?<!\\)" + re.escape(text), outside)
