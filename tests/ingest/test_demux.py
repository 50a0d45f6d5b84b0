"""Whatever collects logs, each VM's lines come out as it wrote them, and two VMs stay two."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumps import Printed, internal_errors, reports
from kvmwhy.ingest.log_prefix import peel
from kvmwhy.readers import read
from kvmwhy.record import Failure, Host, Source

Wrap = Callable[[str, int], str]  # a line and its writer's number


def said(data: bytes) -> list[Failure]:
    """What was read, without its place and without what was repaired."""
    return [msgspec.structs.replace(f, source=Source(), repairs=(), host=Host()) for f in read(data).failures]


def dumped(**fields: object) -> str:
    return json.dumps(fields)


def export(line: str, n: int) -> str:
    return f"__CURSOR=s=1;i={n}\n__REALTIME_TIMESTAMP=1700000000000000\n_HOSTNAME=pve1\n_PID={n}\nMESSAGE={line}\n\n"


# Wrappings that name the writer, so that two VMs in one log can be told apart.
WITH_WRITER: dict[str, Wrap] = {
    "syslog": lambda line, n: f"Jan 02 03:04:05 pve1 QEMU[{n}]: {line}\n",
    "syslog without a pid": lambda line, n: f"Jan  2 03:04:05 node{n} qemu: {line}\n",
    "syslog with a priority": lambda line, n: f"<30>Jan  2 03:04:05 pve1 qemu-kvm[{n}]: {line}\n",
    "rsyslog": lambda line, n: f"2026-01-02T03:04:05.123456+01:00 pve1 QEMU[{n}]: {line}\n",
    "RFC 5424": lambda line, n: f'<30>1 2026-01-02T03:04:05.123Z pve1 QEMU {n} - [meta x="1"] {line}\n',
    "short-iso": lambda line, n: f"2026-01-02T03:04:05+0100 pve1 QEMU[{n}]: {line}\n",
    "short-precise": lambda line, n: f"Jan 02 03:04:05.123456 pve1 QEMU[{n}]: {line}\n",
    "short-full": lambda line, n: f"Fri 2026-01-02 03:04:05 UTC pve1 QEMU[{n}]: {line}\n",
    "short-unix": lambda line, n: f"1767323045.123456 pve1 QEMU[{n}]: {line}\n",
    "short-monotonic": lambda line, n: f"[12345.678901] pve1 QEMU[{n}]: {line}\n",
    "journalctl without host": lambda line, n: f"        QEMU[{n}]: {line}\n",
    "journald JSON": lambda line, n: dumped(_PID=str(n), _HOSTNAME="pve1", MESSAGE=line, PRIORITY="6") + "\n",
    "journald bytes": lambda line, n: dumped(_PID=str(n), MESSAGE=list(line.encode())) + "\n",
    "journald JSON, pretty": lambda line, n: json.dumps({"_PID": str(n), "MESSAGE": line}, indent="\t") + "\n",
    "journald JSON, SSE": lambda line, n: "data: " + dumped(_PID=str(n), MESSAGE=line) + "\n\n",
    "journald JSON, seq": lambda line, n: "\x1e" + dumped(_PID=str(n), MESSAGE=line) + "\n",
    "journald export": export,
    "kata": lambda line, n: f'time="2026-01-02T03:04:05Z" level=error msg={json.dumps(line)} pid={n} qemuPid={n}\n',
    "kata in journald": lambda line, n: (
        f'Jan 02 03:04:05 node kata[7]: time="2026-01-02T03:04:05Z" level=error msg={json.dumps(line)} sandbox=s{n}\n'
    ),
    "virt-launcher": lambda line, n: (
        dumped(component="virt-launcher", level="info", msg=line, pos="q.go:1", uid=f"u{n}") + "\n"
    ),
    "Kubernetes fluentd": lambda line, n: (
        dumped(log=line + "\n", stream="stderr", kubernetes={"pod_name": f"p{n}"}) + "\n"
    ),
    "Elastic": lambda line, n: dumped(_source={"message": line, "host": f"h{n}"}) + "\n",
    "kubectl --prefix": lambda line, n: f"[pod/virt-launcher-vm{n}/compute] {line}\n",
    "docker compose": lambda line, n: f"vm-{n}  | {line}\n",
    "GitHub, downloaded": lambda line, n: f"job{n}\trun tests\t2026-01-02T03:04:05.1234567Z {line}\n",
}
# Wrappings with a time at most.
WITHOUT: dict[str, Wrap] = {
    "CRI": lambda line, _: f"2026-01-02T03:04:05.123456789+00:00 stderr F {line}\n",
    "kubectl --timestamps": lambda line, _: f"2026-01-02T03:04:05.123456789Z {line}\n",
    "GitHub": lambda line, _: f"2026-01-02T03:04:05.1234567Z {line}\n",
    "GitLab": lambda line, _: f"2026-01-02T03:04:05.123456Z 01E {line}\n",
    "Jenkins": lambda line, _: f"[2026-01-02T03:04:05.123Z] {line}\n",
    "ts": lambda line, _: f"Jan 02 03:04:05 {line}\n",
    "ansible": lambda line, _: f"            {json.dumps(line)},\n",
    "ansible log": lambda line, _: f"2026-01-02 03:04:05,123 p=1 u=root n=ansible | {line}\n",
    "printk": lambda line, _: f"[  123.456789] {line}\n",
    "printk with a caller": lambda line, _: f"<4>[  123.456789][ T1234] {line}\n",
    "dmesg -x": lambda line, _: f"kern  :err   : [  123.456789] {line}\n",
    "dmesg -T": lambda line, _: f"[Fri Jan  2 03:04:05 2026] {line}\n",
    "kmsg": lambda line, _: f"6,1234,123456789,-;{line}\n",
    "bbcode": lambda line, _: f"[code][b]{line}[/b][/code]\n",
    "numbered": lambda line, _: f"  12  {line}\n",
}


def wrapped(wrap: Wrap, text: str, n: int = 123) -> str:
    return "".join(wrap(line, n) for line in text.splitlines())


@pytest.mark.parametrize("name", [*WITH_WRITER, *WITHOUT])
@settings(max_examples=8)
@given(reports())
def test_a_wrapping_loses_nothing(name: str, report: Printed) -> None:
    """The record is equal to the clean one."""
    wrap = (WITH_WRITER | WITHOUT)[name]
    assert said(wrapped(wrap, report.text).encode()) == [report.failure]


@pytest.mark.parametrize("name", WITH_WRITER)
@settings(max_examples=8)
@given(reports(), reports(), st.data())
def test_two_vms_of_one_journal_are_two(name: str, first: Printed, second: Printed, data: st.DataObject) -> None:
    """Their lines alternate in any order, and not one value is lost or given to the other."""
    wrap = WITH_WRITER[name]
    mine = [wrap(line, 1) for line in first.text.splitlines()]
    theirs = [wrap(line, 2) for line in second.text.splitlines()]
    order = data.draw(st.lists(st.booleans(), min_size=len(mine) + len(theirs), max_size=len(mine) + len(theirs)))
    out = []
    for from_mine in order:
        source = (mine or theirs) if from_mine else (theirs or mine)
        out.append(source.pop(0))
    found = said("".join(out).encode())
    assert found in ([first.failure, second.failure], [second.failure, first.failure])


@settings(max_examples=10)
@given(reports())
def test_lines_and_writers_are_the_journals(report: Printed) -> None:
    """The line is that of the input, not of the writer's own text; the time is the announcing line's."""
    noise = "".join(f"Jan 02 03:04:{n:02} pve1 sshd[9]: session {n}\n" for n in range(10))
    text = noise + wrapped(WITH_WRITER["syslog"], report.text, 77)
    (failure,) = read(text.encode(), path="j.log").failures
    assert failure.source == Source(
        path="j.log", line=11, vmm="qemu", time="Jan 02 03:04:05", writer="QEMU[77] on pve1"
    )


@settings(max_examples=20)
@given(reports(), st.integers(1, 100))
def test_lines_cut_by_the_collector_are_whole_again(report: Printed, width: int) -> None:
    """CRI's P and docker's missing line end: the next piece of the same stream continues the line."""
    cri, docker = [], []
    for line in report.text.splitlines():
        pieces = [line[at : at + width] for at in range(0, len(line), width)] or [""]
        for n, piece in enumerate(pieces):
            last = n + 1 == len(pieces)
            cri.append(f"2026-01-02T03:04:05.1Z stderr {'F' if last else 'P'} {piece}\n")
            docker.append(dumped(log=piece + ("\n" if last else ""), stream="stderr", time="x") + "\n")
    assert said("".join(cri).encode()) == [report.failure]
    assert said("".join(docker).encode()) == [report.failure]


@settings(max_examples=20)
@given(reports())
def test_a_recording_of_a_terminal_is_played(report: Printed) -> None:
    """asciinema, versions 1 to 3; output comes in pieces that are no lines."""
    text = report.text.replace("\n", "\r\n")
    pieces = [text[at : at + 37] for at in range(0, len(text), 37)]
    header = {"version": 2, "width": 80, "height": 24, "timestamp": 1700000000}
    cast = "\n".join([json.dumps(header), *(json.dumps([0.1 * n, "o", p]) for n, p in enumerate(pieces))])
    assert said(cast.encode()) == [report.failure]
    assert said(cast.replace('"version": 2', '"version": 3').encode()) == [report.failure]
    old = {"version": 1, "width": 80, "height": 24, "stdout": [[0.1, p] for p in pieces]}
    assert said(json.dumps(old).encode()) == [report.failure]


@settings(max_examples=30)
@given(reports(internal_errors()))
def test_newest_first_is_turned_round(report: Printed) -> None:
    """A log viewer shows the last line first."""
    lines = report.text.splitlines()
    assert said("\n".join(reversed(lines)).encode()) == [report.failure]
    assert said(wrapped(WITH_WRITER["syslog"], "\n".join(reversed(lines))).encode()) == [report.failure]


def test_binary_fields_of_an_export() -> None:
    """A message with line ends is given by its length; what follows it is read again."""
    message = b"KVM: entry failed, hardware error 0x7\nEAX=00000001 EBX=00000002 ECX=00000003 EDX=00000004"
    data = b"__CURSOR=a\n_PID=7\nMESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n\n"
    data += b"__CURSOR=b\n_PID=7\nMESSAGE=KVM: unknown exit reason 41\n\n"
    first, second = read(data).failures
    assert (first.hardware_error, second.exit_reason) == (7, 41)
    assert first.cpu
    assert first.cpu.get("rbx") == 2
    torn = data.replace(len(message).to_bytes(8, "little"), b"\xff" * 8)
    assert [f.exit_reason for f in read(torn).failures][-1] == 41


def test_each_host_has_its_own_kernel() -> None:
    """In a journal of several hosts, what one kernel says is not said of the other's guests."""
    text = (
        "Jan 02 03:04:05 a kernel: kvm_intel: VMX enabled\n"
        "Jan 02 03:04:05 b kernel: kvm_amd: Nested Paging enabled\n"
        "Jan 02 03:04:06 a QEMU[1]: KVM: entry failed, hardware error 0x7\n"
        "Jan 02 03:04:06 b QEMU[1]: KVM: entry failed, hardware error 0xffffffff\n"
    )
    assert [f.host.vendor for f in read(text.encode()).failures] == ["vmx", "svm"]


@pytest.mark.parametrize(
    "line",
    [
        "extra data[0]: 0x0000000000000031",
        "data[0]: 0x31",
        "KVM internal error. Suberror: 1",
        "error: kvm run failed Bad address",
        "RAX=0000000000000000 RBX=0000000000000000",
        "2026-01-02 03:04:05.123+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.0, kernel: 6.1.0",
        "ES =0010 00000000 ffffffff 00c09300 DPL=0 DS   [-WA]",
        "",
    ],
)
def test_what_has_no_prefix_keeps_all(line: str) -> None:
    """QEMU's own lines look like some prefixes; they are none."""
    assert peel(line) is None


@given(st.text(max_size=300))
def test_any_line_can_be_peeled(line: str) -> None:
    """Nothing raises, and nothing grows."""
    peeled = peel(line.replace("\n", " "))
    assert peeled is None or len(peeled.text) <= len(line) * 4 + 16
