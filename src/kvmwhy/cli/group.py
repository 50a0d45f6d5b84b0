"""What every command shares: a file in place of a command, and the options that all of them take."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import click


class Command(click.Command):
    """A command that also takes what stands before it: --color and --quiet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        taken = {flag for parameter in self.params for flag in parameter.opts}
        self.params += [option for option in _hidden() if not taken & set(option.opts)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and refuse an option as the value of another: `--html --full` would write a file named --full."""
        rest = super().parse_args(ctx, args)
        parameters = self.get_params(ctx)
        spellings = {spelling for parameter in parameters for spelling in parameter.opts + parameter.secondary_opts}
        for option in parameters:
            value = ctx.params.get(option.name or "")
            for word in value if isinstance(value, tuple) else (value,):
                if isinstance(option, click.Option) and isinstance(word, str) and word[:1] == "-" and word in spellings:
                    message = (
                        f"{option.opts[0]} needs a value, and {word} is an option; a file of that name is ./{word}"
                    )
                    raise click.UsageError(message, ctx)
        return rest


class LinuxCommand(Command):
    """One that asks the live host, of /proc, /dev/kvm or the kernel's log: only Linux has them."""

    def invoke(self, ctx: click.Context) -> Any:
        if sys.platform != "linux":
            from kvmwhy.cli.ending import without_linux

            sys.exit(without_linux(ctx.command_path))
        return super().invoke(ctx)


class Group(click.Group):
    """The commands. `kvmwhy FILE` is `kvmwhy explain FILE`."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command; or explain, if the first argument names a file and no command."""
        if args and args[0] not in self.commands and _is_file(args[0]):
            return "explain", self.commands["explain"], args
        return super().resolve_command(ctx, args)


def _is_file(name: str) -> bool:
    """One that exists, or whose name no command could have: then explain says what is wrong with it."""
    return name == "-" or "/" in name or "." in name or os.path.exists(name)


def shared(*, hidden: bool = False) -> list[click.Option]:
    """The options that are taken before and behind a command's name; help shows them once."""
    return [
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            help="Colour: on a terminal, always, or never. NO_COLOR and FORCE_COLOR do the same.",
            expose_value=False,
            callback=_colour,
            hidden=hidden,
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            help="No remarks and errors on stderr; the exit status tells.",
            expose_value=False,
            callback=_quiet,
            hidden=hidden,
        ),
    ]


@cache
def _hidden() -> list[click.Option]:
    """The same for every command: two options for each of them are a millisecond of a start."""
    return shared(hidden=True)


def _colour(_context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        from kvmwhy.cli import output

        output.choose_colour(value)


def _quiet(_context: click.Context, _option: click.Parameter, value: bool | None) -> None:
    if value:
        from kvmwhy.cli import output

        output.be_quiet()
