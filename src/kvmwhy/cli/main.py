"""The commands of kvmwhy, and what their exit statuses mean."""

from __future__ import annotations

import signal
import sys
from typing import Any

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
  kvmwhy demo
  kvmwhy demo --on model
"""
)
@click.option("--on", type=click.Choice(["auto", "kvm", "model"]), default="auto", show_default=True, help="Where.")
def demo(on: str) -> None:
    """Show the whole mechanism once: a guest fails, KVM reports, kvmwhy explains."""
    from kvmwhy.cli.demo import run

    sys.exit(run(on))


@kvmwhy.command(
    epilog="""\b
Examples:
  printf '\\331\\003' > flds.bin
  kvmwhy run flds.bin --mode long64 --reg rbx=0xd0000000
  kvmwhy run boot.bin --mode real16 --page kvm_run.page --json
"""
)
@click.argument("image", type=click.Path())
@click.option("--mode", type=click.Choice(["real16", "prot32", "long64"]), default="long64", show_default=True)
@click.option("--mem", default="1M", show_default=True, help="RAM from address 0 on; K, M or G may follow.")
@click.option("--mmio", multiple=True, metavar="ADDR[:SIZE]", help="A hole in the RAM; may be given again.")
@click.option("--reg", multiple=True, metavar="NAME=VALUE", help="A register to start with; may be given again.")
@click.option("--cpl", type=click.Choice(["0", "3"]), default="0", show_default=True)
@click.option("--on", type=click.Choice(["auto", "kvm", "model"]), default="auto", show_default=True)
@click.option("--kernel", metavar="RELEASE", help="The kernel to model, such as 5.10 or 7.3.")
@click.option("--vendor", type=click.Choice(["vmx", "svm"]), help="The vendor to model.")
@click.option("--cap204/--no-cap204", default=False, help="Enable KVM_CAP_EXIT_ON_EMULATION_FAILURE.")
@click.option("--timeout", type=click.FloatRange(min=0.001), default=2.0, show_default=True, help="Seconds, each exit.")
@click.option("--max-exits", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--page", type=click.Path(dir_okay=False), help="Keep the kvm_run page in this file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per exit, and one for the failure.")
def run(image: str, reg: tuple[str, ...], mem: str, cpl: str, **options: Any) -> None:
    """Run the flat binary IMAGE as a guest, show its exits, and explain its failure.

    The code lies at 0x10000 and runs in the mode that is asked for; memory is mapped one to one. Reads of what is
    not memory are answered with zeros.
    """
    from kvmwhy.cli.run import Wish
    from kvmwhy.cli.run import run as run_guest

    sys.exit(run_guest(Wish(image=image, registers=reg, memory=mem, cpl=int(cpl), **options)))


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
