"""Write docs/man/ from the commands themselves, so that a page never says what --help does not."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import click

from kvmwhy import __version__
from kvmwhy.cli.main import kvmwhy

DATE = "2026-11-30"
FILES = [
    ".SH FILES",
    ".TP",
    ".I /dev/kvm",
    "What run, reproduce and probe use.",
    ".TP",
    ".I /sys/kernel/tracing",
    "What watch and exec use.",
    ".SH ENVIRONMENT",
    ".TP",
    ".B NO_COLOR\\fR, \\fBFORCE_COLOR",
    "No colour, or colour into pipes; the option \\-\\-color goes before them.",
    ".TP",
    ".B PAGER",
    "Shows what does not fit a terminal.",
]
MAN = Path(__file__).resolve().parent.parent / "docs" / "man"


def main() -> int:
    """Write every page, or with --check compare them; 1 if one differs."""
    stale = 0
    for name, text in pages().items():
        path = MAN / name
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.name} is not what tools/make_man.py makes")
            stale = 1
    return stale


def pages() -> dict[str, str]:
    """File name → roff, for the program and for each of its commands."""
    made = {"kvmwhy.1": page("kvmwhy", kvmwhy)}
    made |= {f"kvmwhy-{name}.1": page(f"kvmwhy {name}", command) for name, command in kvmwhy.commands.items()}
    return made


def page(name: str, command: click.Command) -> str:
    """One page in the man macros."""
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    description, _, more = (command.help or "").partition("\n\n")
    title = name.replace(" ", "-")
    lines = [
        f'.TH {title.upper()} 1 "{DATE}" "kvmwhy {__version__}" "User Commands"',
        ".SH NAME",
        escape(f"{title} - {description}").rstrip("."),
        ".SH SYNOPSIS",
        f".B {escape(name)}",
        escape(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *fold(description),
    ]
    for paragraph in filter(None, more.split("\n\n")):
        lines += [".PP", *fold(paragraph)]
    options = [record for p in command.get_params(context) if (record := p.get_help_record(context)) and record[1]]
    if options:
        lines.append(".SH OPTIONS")
        for flags, text in options:
            lines += [".TP", f".B {escape(flags)}", *fold(text)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for child in command.commands:
            lines += [".TP", f".BR kvmwhy\\-{child} (1)", *fold(command.commands[child].get_short_help_str(200))]
    if command.epilog:
        lines += section(command.epilog)
    if isinstance(command, click.Group):
        lines += FILES
    elif command.name not in {"completion", "help"}:
        lines += section(kvmwhy.epilog or "")
    see = [f".BR kvmwhy\\-{child} (1)" for child in sorted(kvmwhy.commands)] if name == "kvmwhy" else [".BR kvmwhy (1)"]
    lines += [".SH SEE ALSO", *(f"{entry}," for entry in see[:-1]), see[-1]]
    return "\n".join(lines) + "\n"


def section(epilog: str) -> list[str]:
    """What stands below the options in --help: a heading, and lines as they are."""
    head, *rest = epilog.replace("\b\n", "").strip().splitlines()
    return [f".SH {head.rstrip(':').upper()}", ".nf", *(escape(line) for line in rest), ".fi"]


def fold(text: str) -> list[str]:
    """Lines short enough for mandoc's lint; none of them begins like a request."""
    return [escape(line) for line in textwrap.wrap(" ".join(text.split()), 72, break_on_hyphens=False)]


def escape(text: str) -> str:
    """Roff takes backslashes, and a dot or quote at the start of a line, for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in {".", "'"} else line for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
