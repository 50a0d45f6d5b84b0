"""How a command ends that could not do all: one sentence, and the exit status that its kind has."""

from __future__ import annotations

import os
import sys

import click

from kvmwhy.cli.output import complain
from kvmwhy.cli.status import BAD_INPUT, NOT_PERMITTED


def refused(error: click.ClickException) -> int:
    """A wrong option or argument: what is wrong with it, and where the right ones are listed."""
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later: a group without a command
        error.show()
        return error.exit_code
    message = error.format_message().rstrip(".").replace("is not a valid integer range", "is no whole number")
    message = message.replace("is not a valid float range", "is no number")
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = "" if context is None else f"see `{context.command_path} --help`"
    between = " " if message.endswith("?") else "; "
    if not message[:2].isupper():  # an argument's name, such as FILE, stays as the help has it
        message = f"{message[:1].lower()}{message[1:]}"
    complain(message + (f"{between}{where}" if where else ""))
    return error.exit_code


def without_linux(command: str) -> int:
    """The command asks what only a Linux host has."""
    complain(f"`{command}` needs Linux; what it captured there can be read here: `kvmwhy explain FILE`")
    return NOT_PERMITTED


def unwritten(error: OSError) -> int:
    """The output could not be written: a full disk, or a closed descriptor."""
    complain(f"the output cannot be written: {(error.strerror or str(error)).lower()}")
    if sys.stdout is not None:
        # What is still in the buffer would fail once more when the interpreter ends, with a message of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BAD_INPUT
