"""The commands of kvmwhy, and what their exit statuses mean."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from kvmwhy import __version__
from kvmwhy.cli.group import Group, LinuxCommand, shared
from kvmwhy.serve import defaults

if TYPE_CHECKING:
    from kvmwhy.arch.x86.instruction import Syntax
    from kvmwhy.cli.symbolise import Symbols

_EPILOG = """\b
Exit status:
  0    done: something was found and decoded
  1    nothing found
  2    wrong usage, or an input that cannot be read
  3    not permitted, or no /dev/kvm
  4    something was found, but part of the evidence is damaged, and
       that leaves the answer open; scan: an input could not be read
  130  interrupted
exec has the status of its command.
"""


def _opened(given: tuple[str, ...]) -> Symbols | None:
    """The files of --symbols, opened."""
    if not given:
        return None
    from kvmwhy.cli.symbolise import Symbols, SymbolsError

    try:
        return Symbols.open(given)
    except SymbolsError as error:
        raise click.UsageError(str(error)) from None


def _size(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """A size as DuckDB takes it: 512MB, 8GiB."""
    if value is not None and not re.fullmatch(r"[1-9][0-9]{0,8}\s?(?:[KMGT]i?)?B", value, re.IGNORECASE):
        raise click.BadParameter(f"{value!r} is no size such as 8GB")
    return value


_syntax = click.option(
    "--syntax",
    type=click.Choice(["intel", "att"]),
    default="intel",
    show_default=True,
    help="The assembler syntax of instructions.",
)
_symbols = click.option(
    "--symbols", multiple=True, metavar="ELF[@OFFSET]", help="Names for RIP and stack; may be given again."
)


@click.group(
    cls=Group,
    epilog=_EPILOG,
    params=shared(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="kvmwhy")
def kvmwhy() -> None:
    """Say why KVM gave up on a guest, and what to do about it.

    `kvmwhy FILE` is `kvmwhy explain FILE`; `kvmwhy help COMMAND` shows what a command does.
    """


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy explain /var/log/libvirt/qemu/guest.log
  journalctl -u guest | kvmwhy explain
  kvmwhy explain guest.log dmesg.txt trace.dat   # what they tell of one failure, together
  kvmwhy explain kvm_run.page            # the 2352 or 4096 bytes of a vCPU's kvm_run page
  kvmwhy explain --full guest.log        # all of it: the evidence, the words, the registers' story
  kvmwhy explain --brief /var/log/libvirt/qemu
  kvmwhy explain --html page.html guest.log   # to look at: nothing on it is loaded from elsewhere
  kvmwhy explain --json *.log | jq -r .answer
  kvmwhy explain -f /var/log/libvirt/qemu/guest.log
  kvmwhy explain --symbols vmlinux guest.log      # function, file and line of RIP
"""
)
@click.argument("files", nargs=-1, type=click.Path(allow_dash=True, readable=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per distinct failure, one a line.")
@_syntax
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Explain at most this many distinct failures; the rest are counted.",
)
@click.option(
    "-v", "--full", "depth", flag_value="full", help="Everything: what the answer rests on, and the raw words."
)
@click.option("--brief", "depth", flag_value="brief", help="One line for each failure.")
@click.option("--html", type=click.Path(dir_okay=False, allow_dash=True), help="Write one page to look at, for all.")
@click.option("--markdown", "depth", flag_value="markdown", help="For a bug tracker.")
@click.option("--github", "depth", flag_value="github", help="Annotations for a workflow on GitHub, one a failure.")
@click.option("--for", "role", type=click.Choice(["guest", "vmm", "host"]), help="Only what this one can do.")
@click.option("--number", type=click.IntRange(min=1), metavar="N", help="Only the Nth failure of the table.")
@click.option("-f", "--follow", is_flag=True, help="Follow the log FILES, and explain each failure as it is written.")
@_symbols
def explain(
    files: tuple[str, ...], *, depth: str | None, syntax: str, follow: bool, symbols: tuple[str, ...], **options: Any
) -> None:
    """Explain the failures in FILES, or in what is piped in: one screen for each.

    Reads logs of VMMs and of the host's kernel, traces, kvm_run pages and cores, dumps of the record's words and
    kvmwhy's own JSON; directories and archives of them. The format is recognised by content; what several inputs tell
    of one failure is put together. Equal failures are explained once and counted.
    """
    from kvmwhy.cli.explain import Wish, run

    if not files and sys.stdin.isatty():
        raise click.UsageError("no FILE is given and nothing is piped in")
    _suit(depth, options, follow=follow, names=bool(symbols))
    known: Any = {"depth": depth or "screen", "syntax": syntax, "symbols": _opened(symbols)}
    wish = Wish(**known, **options)
    if follow:
        from kvmwhy.cli.explain_follow import run as run_follow

        sys.exit(run_follow(files or ("-",), wish))
    sys.exit(run(files or ("-",), wish))


def _suit(depth: str | None, options: dict[str, Any], *, follow: bool, names: bool) -> None:
    """Raise a usage error where one way to show a failure has no place for what another option asks."""
    ways = [
        f"--{way}"
        for way in (depth, "json" if options["as_json"] else None, "html" if options["html"] else None)
        if way
    ]
    if len(ways) > 1:
        raise click.UsageError(f"{' and '.join(ways)} exclude each other")
    way = ways[0] if ways else "a screen"
    if options["role"] and ways:
        raise click.UsageError(f"{way} shows every role's advice; --for is for the screen")
    if names and way in {"--html", "--markdown", "--github", "--brief"}:
        raise click.UsageError(f"{way} has no names of --symbols")
    if follow and (way in {"--html", "--markdown", "--github"} or options["number"]):
        raise click.UsageError("-f shows each failure as it is written: on a screen, --full, --brief or --json")


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
@click.option(
    "--mode",
    type=click.Choice(["real16", "prot32", "long64"]),
    help="A guest of x86 in this mode; else one of this host: long64, or on arm64 and riscv64 its own, untranslated.",
)
@click.option(
    "--mem",
    default="1M",
    show_default=True,
    help="RAM from address 0 on (arm64: 0x40000000, riscv64: 0x80000000); K, M or G may follow.",
)
@click.option("--mmio", multiple=True, metavar="ADDR[:SIZE]", help="A hole in the RAM; may be given again.")
@click.option("--reg", multiple=True, metavar="NAME=VALUE", help="A register to start with; may be given again.")
@click.option("--cpl", type=click.Choice(["0", "3"]), default="0", show_default=True)
@click.option("--on", type=click.Choice(["auto", "kvm", "model"]), default="auto", show_default=True)
@click.option("--kernel", metavar="RELEASE", help="The kernel to model, such as 5.10 or 7.3.")
@click.option("--vendor", type=click.Choice(["vmx", "svm"]), help="The vendor to model.")
@click.option("--cap204/--no-cap204", default=False, help="x86: enable KVM_CAP_EXIT_ON_EMULATION_FAILURE.")
@click.option("--nisv", is_flag=True, help="arm64: enable KVM_CAP_ARM_NISV_TO_USER.")
@click.option("--timeout", type=click.FloatRange(min=0.001), default=2.0, show_default=True, help="Seconds, each exit.")
@click.option("--max-exits", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--page", type=click.Path(dir_okay=False), help="Keep the kvm_run page in this file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per exit, and one for the failure.")
def run(image: str, reg: tuple[str, ...], mem: str, cpl: str, **options: Any) -> None:
    """Run the flat binary IMAGE as a guest, show its exits, and explain its failure.

    The code lies at 0x10000 and runs in the mode that is asked for; memory is mapped one to one. On arm64 it lies at
    0x40001000, on riscv64 at 0x80001000, and runs at EL1 or in S-mode without address translation. Reads of what is
    not memory are answered with zeros.
    """
    from kvmwhy.cli.run import RunOptions
    from kvmwhy.cli.run import run as run_guest

    sys.exit(run_guest(RunOptions(image=image, registers=reg, memory=mem, cpl=int(cpl), **options)))


@kvmwhy.command(
    "exec",
    cls=LinuxCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  kvmwhy exec -- qemu-system-x86_64 -accel kvm -kernel bzImage
  kvmwhy exec --record failed.tar -- make run
  kvmwhy explain failed.tar
""",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--record", metavar="FILE|DIR", help="Keep all that was captured in this file, or in one of its own in DIR."
)
@click.option("--memory", is_flag=True, help="Keep the guest's memory around RIP, operand and stack, too.")
@click.option("--redact", is_flag=True, help="Keep nothing private: failures without names, paths, log and guest data.")
@click.option(
    "--log/--no-log", default=True, help="Read what COMMAND writes to terminals and pipes, while passing it on."
)
@click.option("--trace/--no-trace", default=True, help="Use tracefs, where that is permitted.")
@click.option("--tracefs", metavar="DIR", help="Where tracefs is mounted, if not at /sys/kernel/tracing.")
@click.option("--screen", is_flag=True, help="One screen for each failure, as `kvmwhy explain` shows it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per failure, one a line, to stderr.")
@_syntax
@_symbols
def exec_(command: tuple[str, ...], *, symbols: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND as if kvmwhy were not there; when KVM gives up on a guest of its, explain that at once.

    COMMAND is a VMM, or whatever starts one. It keeps its PID, signals, exit status, terminal and standard input. Its
    vCPUs are followed with those of all that it starts; if none fails, nothing is printed. The explanation goes to
    stderr before the exit status can be seen.
    """
    from kvmwhy.cli.exec import ExecOptions
    from kvmwhy.cli.exec import run as run_command

    checked: tuple[str, ...] = ()
    if symbols:
        from kvmwhy.cli.symbolise import Symbols, SymbolsError

        try:
            checked = Symbols.check(symbols)
        except SymbolsError as error:
            raise click.UsageError(str(error)) from None
    sys.exit(run_command(ExecOptions(command=command, symbols=checked, **options)))


@kvmwhy.command(
    cls=LinuxCommand,
    epilog="""\b
Examples:
  kvmwhy attach 4242
  kvmwhy attach web1 web2                # guests of QEMU, domains of libvirt, or programs by name
  kvmwhy attach --all
  kvmwhy attach --domain guest --json
  kvmwhy attach -f 4242                  # wait until it fails
""",
)
@click.argument("targets", nargs=-1, metavar="[PID|NAME]...")
@click.option("--all", "every", is_flag=True, help="Show every VMM of this host with its vCPUs.")
@click.option("--qmp", type=click.Path(), metavar="SOCKET", help="QEMU's monitor, a UNIX socket.")
@click.option("--domain", metavar="NAME", help="A libvirt domain; virsh asks its monitor.")
@click.option("--monitor/--no-monitor", default=True, help="Look for the monitor of a QEMU that is given by PID.")
@click.option("-f", "--follow", is_flag=True, help="Wait for the next failure, and explain that.")
@click.option("-v", "--full", is_flag=True, help="Everything: what the answer rests on, and the raw words.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per failing vCPU, one a line.")
@_syntax
@_symbols
def attach(targets: tuple[str, ...], *, syntax: str, symbols: tuple[str, ...], **options: Any) -> None:
    """Explain the failures that the VMMs with these PIDs or names hold, whatever programs they are.

    Their vCPUs' kvm_run pages are read from their memory. The monitor of QEMU, or else its own log, adds registers
    and code; the monitor also stack, page tables and the memory map. A vCPU that runs on has not failed, whatever is
    left in its page. No guest is ever stopped, resumed or changed.
    """
    from kvmwhy.cli.attach import AttachOptions
    from kvmwhy.cli.attach import run as run_attach

    every, qmp, domain = options["every"], options["qmp"], options["domain"]
    _only_one(options, "full", "as_json")
    if every and (targets or qmp or domain):
        raise click.UsageError("--all takes no PID, no NAME, no --qmp and no --domain")
    if qmp and domain:
        raise click.UsageError("--qmp and --domain are two ways to one monitor; give one")
    if (qmp or domain) and (len(targets) > 1 or options["follow"]):
        raise click.UsageError("--qmp and --domain are the monitor of one VMM; -f and several take PIDs or names")
    if not (every or targets or qmp or domain):
        raise click.UsageError("give a PID, a NAME, --all, --qmp SOCKET or --domain NAME")
    if any(name.isdecimal() and not int(name) for name in targets):
        raise click.UsageError("no process has the number 0")
    att: Syntax = "att" if syntax == "att" else "intel"
    sys.exit(run_attach(AttachOptions(targets=targets, syntax=att, symbols=_opened(symbols), **options)))


@kvmwhy.command(
    cls=LinuxCommand,
    epilog="""\b
Examples:
  kvmwhy watch | jq -r .answer
  kvmwhy watch --out /var/log/kvmwhy/failures.jsonl --listen 127.0.0.1:9748
""",
)
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Append records here, not to stdout.")
@click.option("--max-size", default="64M", show_default=True, help="Rotate FILE at this size; K, M or G may follow.")
@click.option("--keep", type=click.IntRange(min=1), default=5, show_default=True, help="FILE.1 to FILE.N are kept.")
@click.option("--metrics", type=click.Path(dir_okay=False), metavar="FILE", help="Counters for node-exporter.")
@click.option("--listen", metavar="[HOST:]PORT", help="Counters for Prometheus, at /metrics.")
@click.option("--tracefs", metavar="DIR", help="Where tracefs is mounted, if not at /sys/kernel/tracing.")
@click.option(
    "--history",
    type=click.IntRange(min=0),
    default=1024,
    show_default=True,
    help="KiB per CPU for what led to a failure; 0: record failures alone, which costs a guest less.",
)
@click.option("--duration", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop by itself after this time.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines on a terminal, too.")
@click.option("-q", "--quiet", is_flag=True, help="No line on the terminal for each failure.")
@click.option("--name", default="kvmwhy", show_default=True, help="Its instances are called NAME-PID, NAME-PID-past.")
@_symbols
def watch(max_size: str, listen: str | None, *, symbols: tuple[str, ...], **options: Any) -> None:
    """Record every failure of every vCPU on this host as it happens, until it is stopped.

    On a terminal, the answers as text; into a pipe or a file, one JSON object a line, as `kvmwhy explain --json` makes
    them, with what the vCPU did before. An instance of tracefs of its own is used; other tracing on the host is left
    as it is.
    """
    from kvmwhy.cli.watch import WatchOptions, address, size
    from kvmwhy.cli.watch import run as run_watch

    if options["out"] is None and (_given("max_size") or _given("keep")):
        raise click.UsageError("--max-size and --keep rotate the file of --out")
    try:
        wish = WatchOptions(max_size=size(max_size), listen=address(listen), symbols=_opened(symbols), **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(run_watch(wish))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy timeline trace.dat --out trace.pftrace
  trace-cmd report | kvmwhy timeline - --out trace.pftrace
  kvmwhy timeline /var/log/kvmwhy/failures.jsonl --out failures.pftrace
"""
)
@click.argument("file", type=click.Path(allow_dash=True, readable=False))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where the timeline goes, in Perfetto's own format.",
)
def timeline(file: str, out: str) -> None:
    """Draw the trace in FILE for the Perfetto UI: a lane for each vCPU, its time in the guest and in the host.

    FILE is a trace.dat, a trace as text (of tracefs, trace-cmd, perf or QEMU), or what `kvmwhy watch` recorded. Exits
    are decoded and have their arguments; failures are marked on their lane and on a lane of their own, each with its
    answer.
    """
    from kvmwhy.cli.timeline import run

    sys.exit(run(file, out))


@kvmwhy.command(
    cls=LinuxCommand,
    epilog="""\b
Examples:
  kvmwhy doctor
  kvmwhy doctor -v
  kvmwhy doctor --json | jq .findings
""",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--tracefs", metavar="DIR", help="Where tracefs is mounted, if not at /sys/kernel/tracing.")
@click.option("-v", "--verbose", is_flag=True, help="All findings, parameters of modules and capabilities.")
def doctor(*, as_json: bool, tracefs: str | None, verbose: bool) -> None:
    """Say what stands in the way of KVM and of a diagnosis on this host, the worst first, each with its fix.

    At most 15 lines; -v shows everything.
    """
    from kvmwhy.cli.doctor import run

    sys.exit(run(as_json=as_json, tracefs=tracefs, verbose=verbose))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy spec > kvmwhy.schema.json
  kvmwhy spec c > kvmwhy.h
"""
)
@click.argument("what", type=click.Choice(["schema", "record", "c", "rust", "go"]), default="schema")
def spec(what: str) -> None:
    """Print the JSON Schema of the record, or code with which a VMM writes it in its own error path.

    `schema` is what `kvmwhy explain --json` writes; `record` is the part that a VMM writes and kvmwhy reads; `c`,
    `rust` and `go` make one line of it from a kvm_run pointer.
    """
    from kvmwhy.cli.spec import run

    sys.exit(run(what))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy schema
  kvmwhy schema triage > triage.schema.json
"""
)
@click.argument("name", required=False, shell_complete=lambda *_: _schema_names())
def schema(name: str | None) -> None:
    """Print the JSON Schema of what a command writes with --json, or list which there are.

    The same files are in the package: importlib.resources.files("kvmwhy") / "schemas".
    """
    from kvmwhy.cli.spec import run_schema

    sys.exit(run_schema(name))


def _schema_names() -> list[str]:
    from kvmwhy.cli.spec import schema_names

    return schema_names()


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy reproduce guest.log
  kvmwhy reproduce guest.log --matrix model
  kvmwhy reproduce guest.log --export c > reproduce.c
"""
)
@click.argument("file", type=click.Path(allow_dash=True, readable=False))
@click.option("--on", type=click.Choice(["auto", "kvm", "model"]), default="auto", show_default=True, help="Where.")
@click.option("--kernel", metavar="RELEASE", help="The kernel to model, or the lab's; else that of the report.")
@click.option("--vendor", type=click.Choice(["vmx", "svm"]), help="The vendor to model; else that of the report.")
@click.option("--lab", is_flag=True, help="On every real kernel of the lab (see docs/lab.md).")
@click.option("--matrix", type=click.Choice(["model"]), help="On every modelled kernel.")
@click.option(
    "--export",
    type=click.Choice(["c", "selftest", "kvm-unit-test", "report"]),
    help="Write the guest as a C program, a KVM selftest, a kvm-unit-test, or a mail for a kernel list.",
)
@click.option("--minimise", is_flag=True, help="Leave out what the failure does not need.")
@click.option("--number", type=click.IntRange(min=1), help="The N-th failure of FILE only.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most this many failures.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per failure, one a line.")
def reproduce(**options: Any) -> None:
    """Run what failed in FILE again, and say whether it fails here in the same way.

    The guest is made from the log alone: its mode, registers, code, and memory where the log shows that there was
    some. It runs in a VM without devices, for at most two seconds. Without --on, it runs on /dev/kvm if that can be
    used and no kernel was chosen, else on a model of KVM.
    """
    if options["on"] == "kvm" and (options["kernel"] or options["vendor"]):
        raise click.UsageError("--on kvm runs on this host's kernel and CPU; --kernel and --vendor are the model's")
    _only_one(options, "export", "matrix", "lab")
    _only_one(options, "export", "as_json")
    if options["matrix"] and options["on"] != "auto":
        raise click.UsageError("--matrix runs on models; --on is for one machine")
    from kvmwhy.cli.reproduce import ReproduceOptions, run_command

    sys.exit(run_command(ReproduceOptions(**options)))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy atlas                                   # which kernels were measured, and what came out
  kvmwhy atlas "movntdqa xmm0, [rdi]"
  kvmwhy atlas "movntdqa (%rdi), %xmm0"
  kvmwhy atlas movbe --since
  kvmwhy atlas --html atlas.html
  kvmwhy atlas --bytes "c5 fe 6f 07" --kernel 6.18
  kvmwhy atlas --diff 6.18 7.3
  kvmwhy atlas --faults                          # what current KVM carries out wrongly, by cause
  kvmwhy atlas --faults tzcnt-lzcnt --export c > emulator_tzcnt_lzcnt.c
  kvmwhy atlas --arch arm64 "ldp x0, x1, [x2]"
  kvmwhy atlas --arch riscv64 --bytes 00052507 --kernel 6.12
"""
)
@click.argument("text", metavar="[INSTRUCTION]", required=False)
@click.option("--bytes", "code", metavar="HEX", help="The instruction's bytes, instead of its text.")
@click.option(
    "--mode",
    type=click.Choice(["real16", "prot16", "prot32", "long64"]),
    default="long64",
    show_default=True,
    help="prot16 and prot32 hold for 16- and 32-bit code of a 64-bit system, too.",
)
@click.option("--kernel", metavar="RELEASE", help="What holds on this kernel, measured or not.")
@click.option("--since", is_flag=True, help="Only since when KVM carries it out.")
@click.option("--diff", nargs=2, metavar="OLD NEW", help="All forms whose outcome differs between two kernels.")
@click.option(
    "--faults",
    is_flag=False,
    flag_value="",
    metavar="[ID]",
    help="What current KVM carries out wrongly, by cause; or all about one of these.",
)
@click.option(
    "--export",
    "form",
    type=click.Choice(["c", "selftest"]),
    help="With --faults ID: a test that fails where KVM is wrong, as a program or as a KVM selftest.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write a heat map, of opcodes or of accesses.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per form, one a line.")
@click.option(
    "--arch",
    type=click.Choice(["x86", "arm64", "riscv64"]),
    default="x86",
    show_default=True,
    help="On arm64 and riscv64: what becomes of the access where there is no memory.",
)
def atlas(arch: str, faults: str | None, form: Literal["c", "selftest"] | None, **options: Any) -> None:
    """Show what KVM's emulator makes of INSTRUCTION, kernel by kernel, as measured.

    INSTRUCTION is in Intel's or AT&T's syntax; which registers and which address does not matter. A mnemonic alone
    asks about all of its forms. They are shown against the kernels, this host's first. Of arm64 and riscv64,
    INSTRUCTION is in GNU as's syntax, and --bytes takes the word, a9401003, or bytes in memory's order with spaces.
    """
    if faults is None and form:
        raise click.UsageError("--export writes a test for one of --faults: --faults ID --export c")
    if faults is not None:
        if others := [name for name in ("arch", *options) if _given(name) and name != "as_json"]:
            other = _FLAGS.get(others[0], others[0])
            raise click.UsageError(
                f"--faults shows what is wrong by cause, of all kernels and modes; it takes no --{other}"
            )
        from kvmwhy.cli.atlas_faults import run as run_faults

        sys.exit(run_faults(faults, form, as_json=options["as_json"]))
    _only_one(options, "since", "diff", "code")
    if options["diff"] and (options["text"] or options["kernel"]):
        raise click.UsageError("--diff names two kernels and shows all forms; it takes no INSTRUCTION and no --kernel")
    if options["since"] and options["as_json"]:
        raise click.UsageError("--json has since when with each form; --since is for text")
    if arch != "x86" and (options["since"] or _given("mode")):
        raise click.UsageError(
            f"--mode and --since are of x86; of {arch}, --kernel shows one kernel and --diff compares two"
        )
    if options["text"] and options["code"]:
        raise click.UsageError("INSTRUCTION and --bytes are two ways to name one; give one")
    if arch != "x86":
        from kvmwhy.cli.atlas_traps import TrapOptions
        from kvmwhy.cli.atlas_traps import run as run_traps

        del options["mode"], options["since"]
        sys.exit(run_traps(TrapOptions(arch, **options)))
    from kvmwhy.cli.atlas import AtlasOptions
    from kvmwhy.cli.atlas import run as run_atlas

    sys.exit(run_atlas(AtlasOptions(**options)))


@kvmwhy.command(
    cls=LinuxCommand,
    epilog="""\b
Examples:
  kvmwhy probe
  kvmwhy probe --instruction "vmovdqu ymm0, [rdi]"
  kvmwhy probe --journal probe.journal --out probe.tsv
""",
)
@click.option(
    "--instruction",
    "text",
    metavar="TEXT",
    help="Only forms like this one: of x86 in Intel's syntax, of arm64 and riscv64 in GNU as's.",
)
@click.option(
    "--bytes",
    "code",
    metavar="HEX",
    help="Only this encoding: of x86 its bytes, of arm64 and riscv64 its word, a9401003, or its bytes with spaces.",
)
@click.option("--mode", type=click.Choice(["real16", "prot16", "prot32", "long64"]), help="x86: only this mode.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="x86: also encodings that no CPU defines, and register forms. Else: every form of the atlas with an operand.",
)
@click.option("--out", type=click.Path(dir_okay=False), help="Write a table of all verdicts.")
@click.option("--journal", type=click.Path(dir_okay=False), help="x86: go on from here after an interruption.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per form, one a line.")
def probe(**options: Any) -> None:
    """Measure what this host's KVM can emulate, and compare it with the atlas.

    Each form is one small guest, whose operand is where there is no memory. It runs in one VM of 64 KiB, and needs
    /dev/kvm. On arm64 and riscv64, where KVM emulates no instructions, each class of access is asked for: whether it
    reaches a VMM, for one that asks for nothing, for one with KVM_CAP_ARM_NISV_TO_USER, and for one that injects an
    abort as QEMU does.
    """
    _only_one(options, "text", "code")
    if options["everything"] and (options["text"] or options["code"]):
        raise click.UsageError("--all is for a probe of everything; --instruction and --bytes name what is asked")
    from kvmwhy.cli.other_host import bare_host, refusal

    if arch := bare_host():
        from kvmwhy.cli.probe_access import run as run_access

        given = (("--mode", options.pop("mode")), ("--journal", options.pop("journal")))
        if sentence := refusal(given, "x86", arch):
            raise click.UsageError(sentence)
        sys.exit(run_access(arch, **options))
    from kvmwhy.cli.probe import ProbeOptions
    from kvmwhy.cli.probe import run as run_probe

    sys.exit(run_probe(ProbeOptions(**options)))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy scan /var/log/libvirt/qemu --out failures.parquet
  kvmwhy scan 'logs/**/*.zst' host17.tar.gz --out failures.jsonl
  kvmwhy scan s3://logs/lake --out failures.parquet
  kvmwhy scan /srv/logs --out failures.parquet --cluster tcp://scheduler:8786
"""
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(readable=False))
@click.option("--out", type=click.Path(dir_okay=False), help="A .parquet or .jsonl file; else JSON lines to stdout.")
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Processes; else as many as CPUs, if it is worth it."
)
@click.option("--cluster", metavar="ADDRESS", help="Do it on the Dask cluster of this scheduler.")
@click.option("--fresh", is_flag=True, help="Begin anew, whatever an interrupted run has left.")
def scan(**options: Any) -> None:
    """Find every failure in PATHS, and write one row for equal ones of one host, writer and hour.

    PATHS are files, directories, globs, URLs of object stores (s3://bucket/logs), and archives or compressed files of
    any of them. A run that was stopped goes on where it was when it is given again. What cannot be read is named at the
    end.
    """
    if options["cluster"] and options["jobs"]:
        raise click.UsageError("--jobs are processes of this machine; a cluster has its own workers")
    if options["out"] is None and (options["cluster"] or options["jobs"] or options["fresh"]):
        raise click.UsageError("--cluster, --jobs and --fresh need --out: without it, rows go to stdout one by one")
    from kvmwhy.cli.scan import ScanOptions
    from kvmwhy.cli.scan import run as run_scan

    sys.exit(run_scan(ScanOptions(**options)))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy triage failures.parquet
  kvmwhy triage failures.parquet --since 2026-11-01 --top 3
  kvmwhy triage 'day-*.parquet' --since 7d --by kernel,microcode --html triage.html --pages
  kvmwhy triage failures.parquet --inventory hosts.csv --json | jq '.groups[0].outliers'
  kvmwhy triage last-year.parquet failures.parquet --signature v2
"""
)
@click.argument("records", nargs=-1, required=True, type=click.Path(readable=False))
@click.option(
    "--since", metavar="WHEN", help="A date in ISO 8601, or 7d, 36h, 30m ago. Rows without a time are left out."
)
@click.option("--by", default="", metavar="COLUMN,…", help="Count each group by these columns, too.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Groups to show.")
@click.option("--signature", metavar="VERSION", help="What makes failures the same: v3, the default, or v2.")
@click.option(
    "--inventory", type=click.Path(), help="A .csv, .jsonl or .parquet table of all hosts, with a column host."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--html", type=click.Path(dir_okay=False), metavar="FILE", help="Write one page that works offline.")
@click.option(
    "--pages", is_flag=True, help="Beside it, the page of one failure of each group, from the logs that are here."
)
@click.option("--cluster", metavar="ADDRESS", help="Roll the files up on the Dask cluster of this scheduler.")
@click.option(
    "--memory", metavar="SIZE", callback=_size, help="What DuckDB may use, such as 8GB; it spills to disk beyond."
)
def triage(since: str | None, by: str, **options: Any) -> None:
    """Group the failures in RECORDS, which `kvmwhy scan` wrote, and say what sets each group apart.

    Failures are in one group if cause, instruction, access and place are the same. Groups on most hosts come first,
    each with what to do, and with the command that explains one of its failures in full.
    """
    from kvmwhy.cli.triage import TriageOptions, since_when
    from kvmwhy.cli.triage import run as run_triage

    try:
        when = since_when(since)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if options["pages"] and not options["html"]:
        raise click.UsageError("--pages stand beside the page of --html")
    columns = tuple(name.strip() for name in by.split(",") if name.strip())
    sys.exit(run_triage(TriageOptions(since=when, by=columns, **options)))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy page --out site           # then serve the folder, with any web server
  kvmwhy page --out kvmwhy.html    # all of it in one file, to be opened as it is
  kvmwhy page --out kvmwhy.zip
"""
)
@click.option("--out", required=True, type=click.Path(), help="A folder; or a file, .html or .zip.")
@click.option(
    "--packages", type=click.Path(exists=True, file_okay=False), help="Take the packages from this folder, fetch none."
)
def page(out: str, packages: str | None) -> None:
    """Make the page that explains a log in its reader's browser, and sends it nowhere.

    kvmwhy itself runs in it, on Python for WebAssembly. What it is made of besides is fetched once, from npm and
    PyPI, held against its locked SHA-256, and kept for the next time.
    """
    from kvmwhy.cli.page import run as make_page

    sys.exit(make_page(out, packages))


@kvmwhy.command(
    cls=LinuxCommand,
    epilog="""\b
Examples:
  kvmwhy serve                                     # on this machine alone
  curl --data-binary @guest.log http://127.0.0.1:8080/ | jq -r '.failures[].answer'
  kvmwhy serve --keep kvmwhy.sqlite --name why.example.org   # behind a proxy of that name
""",
)
@click.option("--host", default=defaults.LOOPBACK[0], show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option("--name", multiple=True, help="A name that clients call this server by; may be given again.")
@click.option("--keep", type=click.Path(dir_okay=False), help="Keep redacted records in this file, for those who ask.")
@click.option(
    "--days", type=click.IntRange(min=1), default=defaults.DAYS, show_default=True, help="How long they are kept."
)
@click.option(
    "--body", type=click.IntRange(min=1), default=defaults.BODY, show_default=True, help="MiB of a log at most."
)
@click.option(
    "--unpacked",
    type=click.IntRange(min=1),
    default=defaults.UNPACKED,
    show_default=True,
    help="MiB out of an archive.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=256),
    default=defaults.MEMORY,
    show_default=True,
    help="MiB for one request.",
)
@click.option(
    "--seconds", type=click.IntRange(min=1), default=defaults.SECONDS, show_default=True, help="For one request."
)
@click.option("--workers", type=click.IntRange(min=1), help="Requests that are worked on at once; default: the CPUs.")
def serve(**options: Any) -> None:
    """Serve the page of explanations to a team: a log is posted, its page or JSON comes back.

    Needs the extra `web`. Each request is answered by a process of its own that cannot use more than its limits.
    Nothing of a log is kept, but for the redacted record where the sender asks for a link.
    """
    from kvmwhy.cli.serve import ServeOptions
    from kvmwhy.cli.serve import run as run_server

    sys.exit(run_server(ServeOptions(**options)))


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy redact guest.log > report.txt
  kvmwhy redact --json guest.log | kvmwhy explain
"""
)
@click.argument("file", type=click.Path(allow_dash=True, readable=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object per failure, one a line.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most this many failures.")
def redact(file: str, *, as_json: bool, limit: int) -> None:
    """Make a report of the failures in FILE that is safe to post, and say what was taken out.

    No names, no paths, no text of the log, no guest data but the failing instruction. The answer stays the same.
    """
    from kvmwhy.cli.redact import run

    sys.exit(run(file, as_json=as_json, limit=limit))


def _cause_ids(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[Any]:
    """For the shell's completion."""
    from kvmwhy.cli.cause import completions

    return completions(incomplete)


@kvmwhy.command(
    epilog="""\b
Examples:
  kvmwhy cause
  kvmwhy cause fetch-non-ram
  kvmwhy cause "KVM internal error. Suberror: 3"
  kvmwhy cause nested entry              # all entries that have both words
  kvmwhy cause --by origin
"""
)
@click.argument("words", metavar="[ID|WORD...]", nargs=-1, shell_complete=_cause_ids)
@click.option("--by", type=click.Choice(["family", "mechanism", "origin"]), help="How the list is ordered.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per entry, one a line.")
def cause(words: tuple[str, ...], *, by: str | None, as_json: bool) -> None:
    """Show the catalogue, the page of one entry, or the entries that have all WORDs.

    An entry is a mechanism, an origin, an error line, a cause or a known bug. An error line itself leads to its page.
    """
    from kvmwhy.cli.cause import run

    if by and words:
        raise click.UsageError("--by orders the list of all entries; it takes no ID and no WORD")
    sys.exit(run(" ".join(words), by=by, as_json=as_json))


@kvmwhy.command("help")
@click.argument("command", required=False, shell_complete=lambda *_: sorted(kvmwhy.commands))
@click.pass_context
def help_(context: click.Context, command: str | None) -> None:
    """Show what COMMAND does, as `kvmwhy COMMAND --help`."""
    parent = context.find_root()
    if command is None:
        click.echo(parent.get_help())
        return
    name, known, _ = kvmwhy.resolve_command(parent, [command])
    if known is None or name != command:
        raise click.UsageError(f"no such command {command!r}", parent)
    click.echo(known.get_help(click.Context(known, info_name=name, parent=parent)))


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

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(kvmwhy, {}, "kvmwhy", "_KVMWHY_COMPLETE").source())


def _given(name: str) -> bool:
    """Whether this option stands on the command line, whatever its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


_FLAGS = {"as_json": "json", "code": "bytes", "text": "instruction"}


def _only_one(options: dict[str, Any], *names: str) -> None:
    """Raise a usage error if more than one of these was given."""
    given = [f"--{_FLAGS.get(name, name)}" for name in names if options[name]]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude each other")


def main() -> None:
    """The entry point. When the reader of a pipe has gone, kvmwhy goes too, quietly, as other tools do."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    atexit.register(_leave)
    if any(stream is not None and stream.encoding.lower() != "utf-8" for stream in (sys.stdout, sys.stderr)):
        from kvmwhy.cli.output import suit_streams

        suit_streams()
    if decoder := os.environ.get("KVMWHY_DECODER"):
        _choose_decoder(decoder)
    sys.exit(_run())


def _leave() -> None:
    """Search nothing for cycles at the end, but where nanobind counts what its modules leave, and complains."""
    if "duckdb" not in sys.modules:
        gc.freeze()


def _choose_decoder(name: str) -> None:
    """KVMWHY_DECODER: iced or capstone, where both are installed. Tests compare the two with it."""
    from kvmwhy.arch.x86.decoder import NAMES, choose

    try:
        choose(next(known for known in NAMES if known == name))
    except (StopIteration, ImportError):
        sys.stderr.write(f"kvmwhy: KVMWHY_DECODER={name}: there is no such decoder here\n")
        sys.exit(2)


def _run() -> str | int | None:
    """Run the command; its exit status. The sentences for what may go wrong are imported where they are needed."""
    status: str | int | None
    if sys.stdout is None:
        return _unwritten(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        status = kvmwhy.main(prog_name="kvmwhy", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as ended:
        status = ended.code
        try:
            sys.stdout.flush()
        except OSError as error:
            return _unwritten(error)
    except (KeyboardInterrupt, click.Abort):
        from kvmwhy.cli.status import INTERRUPTED

        return INTERRUPTED
    except click.ClickException as error:
        from kvmwhy.cli.ending import refused

        return refused(error)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        return _unwritten(error)
    return status


def _unwritten(error: OSError) -> int:
    from kvmwhy.cli.ending import unwritten

    return unwritten(error)


_UNWRITABLE = frozenset({errno.ENOSPC, errno.EBADF, errno.EDQUOT, errno.EIO, errno.EFBIG})


if __name__ == "__main__":
    main()
