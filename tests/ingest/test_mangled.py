"""What mail, terminals, log collectors and web pages do to a log changes nothing in what it says."""

from __future__ import annotations

import base64
import html
import json
import quopri
import re
import textwrap
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, reports
from kvmwhy.ingest.normalize import clean
from kvmwhy.readers import read
from kvmwhy.record import Failure, Host, Source


def said(data: bytes) -> list[Failure]:
    """What was read, without its lines and without what was repaired."""
    bare = {"source": Source(), "seen_at": {}, "repairs": (), "host": Host()}
    return [msgspec.structs.replace(f, **bare) for f in read(data).failures]


def by_line(change: Callable[[str], str]) -> Callable[[str], bytes]:
    return lambda text: "".join(change(line) + "\n" for line in text.splitlines()).encode()


def logfmt(line: str) -> str:
    return f'time="2026-01-02T03:04:05.123Z" level=error msg="{line}" name=containerd-shim-v2 pid=123'


def json_line(line: str) -> str:
    return json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-01-02T03:04:05.123456789Z"})


def go_json_line(line: str) -> str:
    return json_line(line).replace("<", "\\u003c").replace(">", "\\u003e")


MANGLES: dict[str, Callable[[str], bytes]] = {
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "quoted": by_line(lambda line: "> " + line),
    "quoted twice": by_line(lambda line: "> > " + line),
    "quoted tightly": by_line(lambda line: ">> " + line),
    "quoted without a space": by_line(lambda line: ">" + line),
    "quoted by a bar": by_line(lambda line: "| " + line),
    "indented": by_line(lambda line: "    " + line),
    "tabbed": by_line(lambda line: "\t" + line),
    "indented and quoted": by_line(lambda line: "  >  " + line),
    "journald": by_line(lambda line: "Jan 02 03:04:05 host QEMU[123]: " + line),
    "syslog, ISO time": by_line(lambda line: "2026-01-02T03:04:05.123456+00:00 deadbeef qemu[123]: " + line),
    "printk": by_line(lambda line: "[  123.456789] " + line),
    "logfmt": by_line(logfmt),
    "JSON lines": by_line(json_line),
    "JSON lines of Go": by_line(go_json_line),
    "one JSON string": lambda text: json.dumps({"log": text}).encode(),
    "quoted-printable": lambda text: quopri.encodestring(text.encode()),
    "HTML entities": lambda text: html.escape(text).encode(),
    "numeric entities": lambda text: text.replace("<", "&#60;").replace(">", "&#x3e;").encode(),
    "HTML": lambda text: f"<pre><code>{html.escape(text)}</code></pre>".encode(),
    "HTML with breaks": lambda text: html.escape(text).replace("\n", "<br>").encode(),
    "HTML of a highlighter": lambda text: re.sub("(0010|CR0)", r"<span class=x>\1</span>", html.escape(text)).encode(),
    "colour": by_line(lambda line: f"\x1b[31m{line}\x1b[0m"),
    "colour in a value": lambda text: text.replace("00", "0\x1b[1;31m0\x1b[m").encode(),
    "terminal title": lambda text: b"\x1b]0;journalctl\x07" + text.encode(),
    "double spacing": lambda text: text.replace("\n", "\n\n").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 LE without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE without a mark": lambda text: text.encode("utf-16-be"),
    "UTF-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "no-break spaces": lambda text: text.replace(" ", "\xa0").encode(),
    "bbcode list": by_line(lambda line: "[*]" + line),
    "markdown": lambda text: f"Hello,\n\n```\n{text}```\nthanks\n".encode(),
    "last line end lost": lambda text: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("name", MANGLES)
@settings(max_examples=25)
@given(reports())
def test_known_manglings_lose_nothing(name: str, report: Printed) -> None:
    """The record is equal to the clean one."""
    assert said(MANGLES[name](report.text)) == [report.failure]


@pytest.mark.parametrize("outer", ["quoted", "CRLF", "quoted-printable", "HTML entities", "UTF-16"])
@pytest.mark.parametrize("inner", ["journald", "printk", "logfmt", "indented"])
@settings(max_examples=10)
@given(reports())
def test_manglings_one_upon_the_other(outer: str, inner: str, report: Printed) -> None:
    """A journal is quoted in a mail; a container's log is pasted from a Windows editor."""
    assert said(MANGLES[outer](MANGLES[inner](report.text).decode())) == [report.failure]


@given(reports(), st.data())
def test_mail_folds_at_any_space(report: Printed, data: st.DataObject) -> None:
    """A line end instead of a space, anywhere, is still a space."""
    spaces = [m.start() for m in re.finditer(" ", report.text)]
    folds = data.draw(st.sets(st.sampled_from(spaces)))
    text = "".join("\n" if n in folds else c for n, c in enumerate(report.text))
    assert said(text.encode()) == [report.failure]


@given(reports(), st.integers(60, 80))
def test_mail_folds_long_lines(report: Printed, width: int) -> None:
    """Folded at a width and quoted afterwards, as a reply does."""
    lines = []
    for line in report.text.splitlines():
        rest = line
        while len(rest) > width and (at := rest.rfind(" ", 0, width)) > 0:
            lines.append(rest[:at])
            rest = rest[at + 1 :]
        lines.append(rest)
    assert said("".join(f"> {line}\n" for line in lines).encode()) == [report.failure]


@given(reports(), st.data())
def test_quoted_printable_breaks_anywhere(report: Printed, data: st.DataObject) -> None:
    """A soft break may stand inside a number; only inside an escape it may not."""
    encoded = quopri.encodestring(report.text.encode()).decode().replace("=\n", "")
    places = [n for n in range(1, len(encoded)) if "=" not in encoded[n - 2 : n] and encoded[n - 1] != "\n"]
    breaks = data.draw(st.sets(st.sampled_from(places), max_size=40))
    text = "".join(("=\n" if n in breaks else "") + c for n, c in enumerate(encoded))
    assert said(text.encode()) == [report.failure]


def test_a_break_before_what_looks_like_a_stamp() -> None:
    """\"data[0]: 0\" is no program that logs with its PID: the text was not logged after it was encoded."""
    plain = "KVM internal error. Suberror: 1\nextra data[0]: 7\nextra data[1]: 30\nEAX=00000001 EBX=00000002\n"
    encoded = plain.replace("=", "=3D").replace("extra data[0]", "extra =\ndata[0]")
    assert said(encoded.encode()) == said(plain.encode())


@given(reports(), st.data())
def test_nul_bytes_are_no_text(report: Printed, data: st.DataObject) -> None:
    """A log on a disk that crashed has runs of NUL in it."""
    places = data.draw(st.sets(st.integers(0, len(report.text)), max_size=20))
    text = "".join(("\0" if n in places else "") + c for n, c in enumerate(report.text))
    assert said(text.encode()) == [report.failure]


@given(reports(), reports())
def test_a_mailbox_with_quoted_printable_and_plain_mail(first: Printed, second: Printed) -> None:
    """Decoding one mail must not take RAX=20… of the next for an escape."""
    text = quopri.encodestring(first.text.encode()) + b"\nFrom nobody\n\n" + second.text.encode()
    assert said(text) == [first.failure, second.failure]


@given(st.text())
def test_repairs_never_fail(text: str) -> None:
    """Any text is read or is none."""
    read(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("quoted-printable", "quoted-printable"),
        ("HTML entities", "HTML"),
        ("UTF-16 LE without a mark", "UTF-16"),
        ("JSON lines", "JSON"),
    ],
)
def test_what_was_undone_is_told(name: str, word: str) -> None:
    """A repair is no loss, but a person may want to know."""
    data = MANGLES[name]("KVM internal error. Suberror: 1\nextra data[0]: 0x0000000000000001\nRAX=<00>\n")
    (failure,) = read(data).failures
    assert word in " ".join(failure.repairs)


def test_bare_tracepoints_are_not_joined() -> None:
    """A trace without the columns before the events' names: mail broke some, and the short ones stay lines."""
    text = (
        "> kvm_exit:             reason EXIT_RSM rip 0x7ffbb280 info 0 0\n"
        "> kvm_emulate_insn:     0:7ffbb280: 0f aa\n"
        "> kvm_exit:             reason EXIT_NPF rip 0xffffffffffbbe119 info\n"
        ">   200000006 1ab000\n"
        "> kvm_nested_vmexit:    vcpu 0 reason npf rip 0xffffffffffbbe119 info1\n"
        ">   0x0000000200000006 info2 0x00000000001ab000 intr_info 0x00000000\n"
        ">   error_code 0x00000000\n"
        "> kvm_page_fault:       address 1ab000 error_code 6\n"
        "> kvm_nested_vmexit_inject: reason EXIT_NPF info1 200000006 info2 1ab000\n"
        ">   int_info 0 int_info_err 0\n"
        "> kvm_inj_exception:    #GP (0x0)\n"
    )
    names = [line.split(":")[0].strip() for line in clean(text.encode()).text.splitlines()]
    for name in ("kvm_emulate_insn", "kvm_page_fault", "kvm_nested_vmexit_inject", "kvm_inj_exception"):
        assert name in names


def test_the_mark_of_a_hypervisor_is_no_prefix() -> None:
    """It says whose failure it is."""
    xen = ("d2v0 VMLAUNCH error: 0x7", "*** Guest State ***", "CR3 = 0x00000000feffc000", "RFLAGS=0x00010002")
    noirvisor = ("Launching vCPU...", "Error while launching the Guest! VMX Status: 1", "-----------")
    for mark, lines in (("(XEN) ", xen), ("[NoirVisor] ", noirvisor)):
        for quote in ("", "> "):
            text = "".join(f"{quote}{mark}{line}\n" for line in lines * 2)
            assert all(line.startswith(mark) for line in clean(text.encode()).text.splitlines())


# Firecracker src/vmm/src/vstate/vcpu.rs and its logger; uhyve src/vm.rs; openvmm vmm_core/virt_kvm
LONG_LINES = {
    "firecracker": (
        "2026-01-02T03:04:05.123456789 [anonymous-instance:fc_vcpu 1:ERROR:src/vmm/src/vstate/vcpu.rs:469] "
        "Received KVM_EXIT_FAIL_ENTRY signal: 0x80000021 on cpu 3\n"
    ),
    "uhyve": (
        "[2026-01-02T03:04:05Z ERROR uhyvelib::vm] CPU 1 VcpuExitFailEntry "
        "{ hardware_entry_failure_reason: 0x80000021, cpu: 3 }\n"
    ),
    "openvmm": "ERROR vp{index=1}: virt_kvm::arch: VP entry failed hardware_entry_failure_reason=0x80000021\n",
}


@pytest.mark.parametrize("line", LONG_LINES.values(), ids=LONG_LINES)
def test_one_line_alone_may_be_broken_twice(line: str) -> None:
    """Cut at a column, and folded at spaces, where the words that a reader looks for are themselves torn."""
    whole = said(line.encode())
    assert whole[0].hardware_error == 0x80000021
    for width in (64, 68, 72, 74, 76, 78, 84, 90, 92, 96, 100):
        cut = "\n".join(line[at : at + width] for at in range(0, len(line), width))
        assert said(cut.encode()) == whole, width
        folded = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) + "\n"
        assert said(folded.encode()) == whole, width


def test_equal_lines_are_no_parts_of_a_broken_one() -> None:
    """All lines have one width, as if a terminal had cut them."""
    line = b"Error: Unexpected VM exit: Unknown KVM VCPU exit: InternalError\n"  # hyperlight
    other = b"lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam\n"
    assert len(line) == len(other)
    (failure,) = read(line + 50 * other).failures
    assert failure.kind == "internal-error"


@pytest.mark.parametrize(
    ("line", "below"),
    [
        # what QEMU prints below a daemon's line; a shell's
        ("2026-01-02T03:04:05.123456Z host daemon[12]: vcpu thread started on", "error: kvm run failed Bad address"),
        ("[   12.345678] kvm: vcpu 1 got an exit that no handler wanted to take", "signal: killed"),
    ],
)
def test_a_line_of_its_own_stays_apart(line: str, below: str) -> None:
    assert clean(f"{line}\n{below}\n".encode()).text.split("\n")[1] == below


@pytest.mark.parametrize("mark", ["kvm.mbox:", "archive/2024-05.mbox:{}:"])
def test_base64_behind_the_names_of_files(mark: str) -> None:
    """As ``grep -r ''`` or ``grep -n ''`` shows a mail: each line has the file's name, the encoded ones, too."""
    log = "KVM internal error. Suberror: 1\nemulation failure\nRAX=0000000000000001 RBX=0000000000000002\n"
    mail = f"From: a@b\nContent-Transfer-Encoding: base64\n\n{base64.encodebytes(log.encode()).decode()}"
    shown = "".join(f"{mark.format(n)}{line}\n" for n, line in enumerate(mail.splitlines(), 1))
    (failure,) = read(shown.encode()).failures
    assert failure.suberror == 1
    assert failure.cpu is not None
    assert failure.cpu.registers["rax"] == 1
