"""The commands of kvmwhy, and what their exit statuses mean."""

from __future__ import annotations

import signal
import sys

import click

from kvmwhy import __version__

_EPILOG = """\b
Exit status:
  0  done: something was found and decoded
  1  nothing found
  2  wrong usage, or an input that cannot be read
  3  not permitted, or no /dev/kvm
  4  something was found, but part of the evidence is damaged
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kvmwhy")
def kvmwhy() -> None:
    """Say why KVM gave up on a guest, and what to do about it."""


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy explain /var/log/libvirt/qemu/guest.log
  journalctl -u guest | kvmwhy explain
  kvmwhy explain kvm_run.page            # the 2352 or 4096 bytes of a vCPU's kvm_run page
  kvmwhy explain --json *.log | jq -r .answer
"""
)
@click.argument("files", nargs=-1, type=click.Path(allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per distinct failure, one a line.")
@click.option(
    "--syntax",
    type=click.Choice(["intel", "att"]),
    default="intel",
    show_default=True,
    help="The assembler syntax of instructions.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Explain at most this many distinct failures; the rest are counted.",
)
def explain(files: tuple[str, ...], *, as_json: bool, syntax: str, limit: int) -> None:
    """Explain the failures in FILES, or in what is piped in.

    Reads QEMU logs of any age, kvm_run pages, and dumps of the record's words. The format is
    recognised by content. Equal failures are explained once and counted.
    """
    from kvmwhy.cli.explain import run

    if not files and sys.stdin.isatty():
        raise click.UsageError("no FILE is given and nothing is piped in")
    sys.exit(run(files or ("-",), as_json=as_json, syntax="att" if syntax == "att" else "intel", limit=limit))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy cause
  kvmwhy cause fetch-non-ram
"""
)
@click.argument("cause_id", metavar="[ID]", required=False)
def cause(cause_id: str | None) -> None:
    """Show the catalogue of causes, or the page of one."""
    from kvmwhy.cli.cause import run

    sys.exit(run(cause_id))


@kvmwhy.command(
    epilog="""\b
Example:
  kvmwhy completion bash > ~/.local/share/bash-completion/completions/kvmwhy
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(made(kvmwhy, {}, "kvmwhy", "_KVMWHY_COMPLETE").source())


def main() -> None:
    """The entry point. When the reader of a pipe has gone, kvmwhy goes too, quietly, as other tools do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    kvmwhy(prog_name="kvmwhy")


if __name__ == "__main__":
    main()
