"""What people and programs do to a text before it is posted, as functions from text to bytes.

Each is written from the outside, as the mailer, the web page or the collector does it; none uses what undoes it.
"""

from __future__ import annotations

import base64
import html
import json
import quopri
import textwrap
from collections.abc import Callable
from functools import partial
from typing import Final

Mangle = Callable[[str], bytes]
ISO: Final = "2026-01-02T03:04:05"


def lines_of(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n")


def by_line(change: Callable[[str], str]) -> Mangle:
    return lambda text: "".join(change(line) + "\n" for line in lines_of(text)).encode()


def numbered(change: Callable[[int, str], str]) -> Mangle:
    return lambda text: "".join(change(n, line) + "\n" for n, line in enumerate(lines_of(text), 1)).encode()


# -- wrapping -------------------------------------------------------------------------------------


def fold(width: int, text: str) -> str:
    """As mailers do: at the last space that fits, which goes; a word that is longer stays whole."""
    out = []
    for line in lines_of(text):
        rest, indent = line, len(line) - len(line.lstrip())
        while len(rest) > width:
            at = rest.rfind(" ", indent + 1, width + 1)
            if at < 0:
                at = rest.find(" ", width)
                if at < 0:
                    break
            out.append(rest[:at].rstrip(" "))
            rest, indent = rest[at + 1 :].lstrip(" "), 0
        out.append(rest)
    return "".join(line + "\n" for line in out)


def flow(width: int, text: str) -> str:
    """RFC 3676: the space stays at the end of the line that was broken."""
    out = []
    for line in lines_of(text):
        rest = line.rstrip(" ")
        while len(rest) > width and (at := rest.rfind(" ", 1, width)) > 0 and rest[:at].strip():
            out.append(rest[: at + 1])
            rest = rest[at + 1 :]
        out.append(rest)
    return "".join(line + "\n" for line in out)


def cut(width: int, text: str) -> str:
    """As a terminal does: at the column, whatever stands there."""
    out = []
    for line in lines_of(text):
        out += [line[at : at + width] for at in range(0, max(1, len(line)), width)]
    return "".join(line + "\n" for line in out)


def quote(text: str, mark: str = "> ") -> str:
    return "".join((mark + line).rstrip() + "\n" for line in lines_of(text))


def in_mail(encoding: str, text: str) -> bytes:
    """One part of a mail with its headers."""
    body = quopri.encodestring(text.encode()) if encoding == "quoted-printable" else base64.encodebytes(text.encode())
    head = "From: A <a@example.org>\nSubject: guest dies\nContent-Type: text/plain; charset=utf-8\n"
    return f"{head}Content-Transfer-Encoding: {encoding}\n\n".encode() + body


def encoded(change: Callable[[str], str]) -> Mangle:
    return lambda text: change(text).encode()


def record(line: str) -> str:
    fields = {"_PID": "123", "_HOSTNAME": "pve1", "__REALTIME_TIMESTAMP": "1767323045000000", "MESSAGE": line}
    return json.dumps(fields | {"SYSLOG_IDENTIFIER": "QEMU"})


def export(line: str) -> str:
    head = "__CURSOR=s=1\n__REALTIME_TIMESTAMP=1767323045000000\n_HOSTNAME=pve1\n_PID=123\nSYSLOG_IDENTIFIER=QEMU\n"
    return f"{head}MESSAGE={line}\n"


def recording(text: str) -> str:
    """asciinema's second format."""
    events = (json.dumps([n / 10, "o", line + "\r\n"]) for n, line in enumerate(lines_of(text)))
    return "\n".join(['{"version": 2, "width": 80, "height": 24}', *events])


def session(text: str) -> str:
    """script(1)."""
    shown = text.replace("\n", "\r\n")
    return f"Script started on 2026-01-02\n\x1b[?2004h$ cat log\n\x1b[?2004l\r{shown}\nScript done on 2026-01-02\n"


WRAPS: Final[dict[str, Mangle]] = {
    **{f"folded at {w}": encoded(partial(fold, w)) for w in (72, 76, 80, 100)},
    **{f"flowed at {w}": encoded(partial(flow, w)) for w in (72, 78)},
    **{f"cut at {w}": encoded(partial(cut, w)) for w in (80, 100, 132)},
    "folded at 76, quoted": lambda text: quote(fold(76, text)).encode(),
    "folded at 76, quoted, folded at 72": lambda text: fold(72, quote(fold(76, text))).encode(),
    "folded at 80, then at 72": lambda text: fold(72, fold(80, text)).encode(),
    "quoted, folded at 72": lambda text: fold(72, quote(text)).encode(),
    "indented, folded at 72": lambda text: textwrap.indent(fold(70, text), "  ").encode(),
}

MARKUP: Final[dict[str, Mangle]] = {
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "quoted": lambda text: quote(text).encode(),
    "quoted twice": lambda text: quote(text, ">> ").encode(),
    "quoted thrice": lambda text: quote(text, "> > > ").encode(),
    "quoted with a bar": lambda text: quote(text, "| ").encode(),
    "quoted-printable": lambda text: quopri.encodestring(text.encode()),
    "mail, quoted-printable": partial(in_mail, "quoted-printable"),
    "mail, base64": partial(in_mail, "base64"),
    "HTML entities": lambda text: html.escape(text).encode(),
    "HTML entities twice": lambda text: html.escape(html.escape(text)).encode(),
    "HTML, pre": lambda text: f"<p>Hello,</p>\n<pre><code>{html.escape(text)}</code></pre>\n".encode(),
    "HTML, br": lambda text: html.escape(text).replace("\n", "<br>\n").encode(),
    "HTML, br without line ends": lambda text: html.escape(text).replace("\n", "<br/>").encode(),
    "HTML, nbsp": lambda text: html.escape(text).replace("  ", "&nbsp;&nbsp;").replace("\n", "<br>\n").encode(),
    "doubled blank lines": lambda text: text.replace("\n", "\n\n").encode(),
    "trailing spaces": by_line(lambda line: line + "   "),
    "no trailing spaces": by_line(str.rstrip),
    "leading spaces": by_line(lambda line: "    " + line),
    "leading tab": by_line(lambda line: "\t" + line),
    "tabs for spaces": lambda text: text.replace("        ", "\t").encode(),
    "spaces for tabs": lambda text: text.expandtabs().encode(),
    "no-break spaces": lambda text: text.replace(" ", "\xa0").encode(),
    "single spaces": lambda text: "".join(
        line[: len(line) - len(line.lstrip())] + " ".join(line.split()) + "\n" for line in lines_of(text)
    ).encode(),
    "markdown": lambda text: f"Hello,\n\n```\n{text}\n```\nthanks\n".encode(),
    "markdown list": by_line(lambda line: "- " + line),
    "bullets": by_line(lambda line: "* " + line),
    "numbered": numbered(lambda n, line: f"{n}. {line}"),
    "pastebin": numbered(lambda n, line: f"{n:5} {line}"),
    "pastebin, tab": numbered(lambda n, line: f"{n}\t{line}"),
    "less -N": numbered(lambda n, line: f"{n:7} {line}"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "colour": by_line(lambda line: f"\x1b[31m{line}\x1b[0m"),
    "comment": by_line(lambda line: "# " + line),
}

PREFIXES: Final[dict[str, Mangle]] = {
    "grep FILE:": by_line(lambda line: f"/var/log/libvirt/qemu/vm-1.log:{line}"),
    "grep FILE: and FILE-": numbered(lambda n, line: f"guest.log{'-' if n % 3 else ':'}{line}"),
    "grep -n": numbered(lambda n, line: f"{n + 100}:{line}"),
    "grep -nC": numbered(lambda n, line: f"{n + 100}{'-' if n % 3 else ':'}{line}"),
    "grep -n FILE": numbered(lambda n, line: f"logs/vm.log:{n + 100}:{line}"),
    "GitHub": by_line(lambda line: f"2026-01-02T03:04:05.1234567Z {line}"),
    "GitHub, group": lambda text: (
        b"2026-01-02T03:04:05.1234567Z ##[group]Run tests\n"
        + by_line(lambda line: f"2026-01-02T03:04:06.1234567Z {line}")(text)
        + b"2026-01-02T03:04:07.1234567Z ##[endgroup]\n"
    ),
    "GitHub, error": by_line(lambda line: f"2026-01-02T03:04:05.1234567Z ##[error]{line}"),
    "GitHub, downloaded": by_line(lambda line: f"build (x86)\tRun tests\t2026-01-02T03:04:05.1234567Z {line}"),
    "GitLab": by_line(lambda line: f"2026-01-02T03:04:05.123456Z 01E {line}"),
    "Jenkins": by_line(lambda line: f"[2026-01-02T03:04:05.123Z] {line}"),
    "Jenkins, branch": by_line(lambda line: f"[build-x86] {line}"),
    "Zuul": by_line(lambda line: f"2026-01-02 03:04:05.123456 | compute1 | {line}"),
    "OpenStack": by_line(
        lambda line: (
            f"Jan 02 03:04:05.123456 np0001 nova-compute[1234]: ERROR nova.virt.libvirt.guest [None req-1 admin] {line}"
        )
    ),
    "TAP": by_line(lambda line: f"# {line}"),
    "pytest": by_line(lambda line: f"E       {line}"),
    "compose": by_line(lambda line: f"vm-1  | {line}"),
    "compose, name": by_line(lambda line: f"qemu       | {line}"),
    "CRI": by_line(lambda line: f"2026-01-02T03:04:05.123456789+00:00 stdout F {line}"),
    "kubectl": by_line(lambda line: f"[pod/virt-launcher-vm-x7k2p/compute] {line}"),
    "logfmt": by_line(
        lambda line: (
            f'time="2026-01-02T03:04:05Z" level=error msg={json.dumps(line)} source=virtcontainers subsystem=qemu'
        )
    ),
    "docker JSON": by_line(
        lambda line: json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-01-02T03:04:05.1Z"})
    ),
    "journald JSON": by_line(record),
    "journald export": by_line(export),
    "journald bytes": by_line(lambda line: json.dumps({"_PID": "123", "MESSAGE": list(line.encode())})),
    "RFC 3164": by_line(lambda line: f"<30>Jan  2 03:04:05 pve1 QEMU[123]: {line}"),
    "RFC 5424": by_line(lambda line: f"<30>1 2026-01-02T03:04:05.123Z pve1 QEMU 123 - - {line}"),
    "Proxmox": by_line(lambda line: f"Jan 02 03:04:05 pve1 QEMU[123]: {line}"),
    "systemd": by_line(lambda line: f"2026-01-02T03:04:05+0100 host1 qemu-kvm[123]: {line}"),
    "journalctl -o cat with name": by_line(lambda line: f"QEMU[123]: {line}"),
    "syslog of a kernel": by_line(lambda line: f"Jan  2 03:04:05 host1 kernel: {line}"),
    "time": by_line(lambda line: f"2026-01-02 03:04:05,123 {line}"),
    "ansible": by_line(lambda line: f"            {json.dumps(line)},"),
    "Firecracker": by_line(
        lambda line: (
            f"2026-01-02T03:04:05.123456789 [anonymous-instance:fc_vcpu 0:ERROR:src/vmm/src/vstate/vcpu.rs:400] {line}"
        )
    ),
    "JSON string": lambda text: json.dumps({"log": text}).encode(),
    "JSON string, twice": lambda text: json.dumps({"body": json.dumps({"log": text})}).encode(),
    "asciinema": encoded(recording),
    "script": encoded(session),
    "numbered, quoted": lambda text: quote(numbered(lambda n, line: f"{n:4} {line}")(text).decode()).encode(),
}

_INNER: Final = ("RFC 3164", "syslog of a kernel", "CRI", "docker JSON", "logfmt", "grep FILE:")
_OUTER: Final = (
    "folded at 76", "cut at 80", "quoted", "quoted-printable", "HTML, br", "pastebin", "GitHub", "doubled blank lines"
)  # fmt: skip
_ALONE: Final = WRAPS | MARKUP | PREFIXES


def after(inner: Mangle, outer: Mangle, text: str) -> bytes:
    return outer(inner(text).decode("utf-8", "replace"))


PAIRS: Final[dict[str, Mangle]] = {
    f"{inner}, then {outer}": partial(after, _ALONE[inner], _ALONE[outer])
    for inner in _INNER
    for outer in _OUTER
    if not (inner in {"docker JSON", "logfmt"} and outer == "folded at 76")  # a space in a string would be lost
}
# Those that name QEMU as the writer: what a kernel logged is not the host's behind them.
OF_QEMU: Final = frozenset(
    {"journald JSON", "journald export", "RFC 3164", "RFC 5424", "Proxmox", "systemd", "journalctl -o cat with name"}
)
MANGLES: Final = _ALONE | PAIRS
