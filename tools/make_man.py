"""Write docs/man/ from the commands themselves, so that a page never says what --help does not."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kvmwhy.cli.main import kvmwhy

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
    context = click.Context(command, info_name=name)
    description, _, more = (command.help or "").partition("\n\n")
    title = name.replace(" ", "-")
    lines = [
        f'.TH {title.upper()} 1 "" kvmwhy "User Commands"',
        ".SH NAME",
        escape(f"{title} - {description}").rstrip("."),
        ".SH SYNOPSIS",
        f".B {name}",
        escape(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        escape(" ".join(description.split())),
    ]
    for paragraph in filter(None, more.split("\n\n")):
        lines += [".PP", escape(" ".join(paragraph.split()))]
    options = [record for p in command.get_params(context) if (record := p.get_help_record(context))]
    if options:
        lines.append(".SH OPTIONS")
        for flags, text in options:
            lines += [".TP", f".B {escape(flags)}", escape(text)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for child in command.commands:
            lines += [".TP", f".BR kvmwhy\\-{child} (1)", escape(command.commands[child].get_short_help_str(200))]
    if command.epilog:
        head, *rest = command.epilog.replace("\b\n", "").strip().splitlines()
        lines += [f".SH {head.rstrip(':').upper()}", ".nf", *(escape(line) for line in rest), ".fi"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Roff takes backslashes, and a dot or quote at the start of a line, for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in {".", "'"} else line for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
