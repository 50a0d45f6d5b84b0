"""The lines of a kernel log, whatever carried them: dmesg, a serial console, syslog, the journal, a mail.

``[  12.345678] text``, with ``printk.caller`` ``[  12.345678][ T1234] text``, on a raw console ``<3>`` before it;
``dmesg -T`` has ``[Mon Jan  2 03:04:05 2026]``, ``dmesg -d`` ``[ +0.000012]``, syslog ``Jan  2 03:04:05 host kernel:``.
What stands behind all that, and behind the names that a module puts before its lines (``pr_fmt``), is the message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

# Seconds since the start; since the line before (dmesg -d); the date (dmesg -T).
_CLOCK: Final = (
    r"(?P<time>[0-9]{1,9}\.[0-9]{1,9})|\+[0-9]{1,6}\.[0-9]{6}"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} {1,2}[0-9]{1,2} [0-9:]{8}(?: [0-9]{4})?"
)
_STAMP: Final = re.compile(rf"\[ {{0,8}}(?:{_CLOCK})\] ?(?:\[ {{0,8}}(?P<caller>[TC][0-9]{{1,9}})\])? ?")
# Of illumos, whose KVM is Linux's of 2011, syslog has "kvm: [ID 177374 kern.warning] WARNING: kvm: …".
_SYSLOG: Final = re.compile(
    r"(?:^|\s)(?:kernel: ?|[a-z]{2,16}: \[ID [0-9]{1,9} kern\.[a-z]{1,8}\] (?:WARNING: |NOTICE: )?)"
)
_LEADING: Final = re.compile(r"[\s>|]{0,64}(?:<[0-9]{1,3}>)?\s{0,8}")
_LONGEST: Final = 4096  # the kernel's own limit is 1 KiB; what is longer is no line of its log
_WITHIN: Final = 200  # characters before which a stamp or "kernel:" stands

# pr_fmt of KVM's modules, kvm_pr_unimpl and vcpu_unimpl (include/linux/kvm_host.h), dev_printk of a PCI device.
_MODULE: Final = re.compile(
    r"(?:(?:WARNING|NOTICE): (?=kvm: ))?"  # of illumos, where syslog's part has been taken off
    r"(?:(?:kvm|kvm_intel|kvm_amd|kvm-intel|kvm-amd|SVM|KVM|kvm-s390|kvm-hv|KVM-HV|virt/tdx|tdx|SEV-SNP|vfio_pci|vfio"
    r"|x86/cpu|x86/virt|DMAR|AMD-Vi|pit|watchdog|NMI watchdog|rcu|traps|ccp|psp): "
    r"|[a-z][a-z0-9_-]{1,24} [0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]: )"
)
_PROCESS: Final = re.compile(r"kvm ?\[(?P<pid>[0-9]{1,10})\]: ")
_VCPU: Final = re.compile(r"vcpu(?P<vcpu>[0-9]{1,5})(?:, guest rIP: 0x(?P<rip>[0-9a-f]{1,16}))?\s")
_MOST_NAMES: Final = 4
# A message that a person quotes within a sentence. Source code's strings have a format, a "\\n" or an argument behind.
_QUOTED: Final = re.compile(
    r"(?:^|[\s:])(?:`(?P<code>[^`\n]{8,300})`|(?:\"(?P<double>[^\"\n]{8,300})\"|“(?P<typed>[^”\n]{8,300})”)"
    r"(?!\s{0,8}(?:,?\s{0,8}$|\)?;)))"  # not a string of a program's
)
_OF_SOURCE: Final = re.compile(r"%[a-z0-9.#*]|\\n")
_MOST_QUOTES: Final = 4
_CALLER: Final = re.compile(r"\[ {0,8}([TC][0-9]{1,9})\] ?")
_SECONDS: Final = re.compile(r" {0,12}[0-9]{1,9}\.[0-9]{1,9}")
_VMM: Final = re.compile(r"(?i:qemu|libvirt|virtqemud|firecracker|cloud-hyp|crosvm|pvedaemon|qmeventd)|kvm$")


class Line(NamedTuple):
    number: int  # from 0
    text: str
    time: float | None  # seconds since the host started
    caller: str | None  # the thread or CPU that printed it, with printk.caller
    stamped: bool = False  # by printk, or by a syslog that names the kernel
    start: int = 0  # where the message begins


class Message(NamedTuple):
    """What a line says from some point on; ``fields``: what the names before it told (pid, vcpu, rip)."""

    text: str
    fields: dict[str, int | str]


class Origin(NamedTuple):
    """What a collector had put before the lines of a text and was taken off: the time of each, and who wrote them."""

    times: tuple[str | None, ...] = ()
    writer: str = ""

    @property
    def is_vmm(self) -> bool:
        """A VMM wrote the text: a kernel's line in it is the guest's console."""
        return _VMM.match(self.writer) is not None

    def line(self, number: int, text: str) -> Line:
        """One line of the text."""
        line = line_of(number, text)
        time = self.times[number] if number < len(self.times) else None
        if line.stamped or not (time or self.writer == "kernel"):
            return line
        seconds = float(time) if time and line.time is None and _SECONDS.fullmatch(time) else line.time
        return line._replace(time=seconds, stamped=True if seconds is not None else self.writer == "kernel")

    def lines(self, text: str) -> Iterator[Line]:
        """Every line of the text."""
        for number, line in enumerate(text.split("\n")):
            yield self.line(number, line)


def line_of(number: int, text: str) -> Line:
    """One line; the stamp is read where there is one, and stays in the text."""
    text = text[:_LONGEST]
    start = _leading(text)
    stamped = False
    if ("kernel:" in text[:_WITHIN] or " kern." in text[:_WITHIN]) and (syslog := _SYSLOG.search(text, 0, _WITHIN)):
        start, stamped = syslog.end(), True
    time = caller = None
    if "[" in text[:_WITHIN] and (stamp := _STAMP.search(text, 0, _WITHIN)):
        time, caller, stamped = stamp["time"], stamp["caller"], True
        start = max(start, stamp.end())
    elif left := _CALLER.match(text, start):  # what is left of a stamp of which a collector's form is the first part
        caller, start = left[1], left.end()
    return Line(number, text, float(time) if time else None, caller, stamped, _leading(text, start))


def quotes(line: Line) -> Iterator[str]:
    """What a sentence quotes: a message of the kernel may be among it."""
    if line.stamped or not any(mark in line.text for mark in '"`“'):
        return
    for n, match in enumerate(_QUOTED.finditer(line.text)):
        quoted = match[match.lastgroup or 0]
        if n >= _MOST_QUOTES:
            return
        if not _OF_SOURCE.search(quoted):
            yield quoted


def messages(line: Line, more: str = "") -> Iterator[Message]:
    """The message of a line, with the names before it, and with one after the other of them taken off.

    ``more`` is what a mailer or a terminal had folded off the line's end.
    """
    text = line.text[line.start :] + more
    fields: dict[str, int | str] = {}
    yield Message(text, fields)
    for _ in range(_MOST_NAMES):
        if name := _MODULE.match(text):
            pass
        elif name := _PROCESS.match(text):
            fields = {**fields, "pid": int(name["pid"])}
        elif name := _VCPU.match(text):
            fields = {**fields, "vcpu": int(name["vcpu"])} | ({"rip": int(name["rip"], 16)} if name["rip"] else {})
        else:
            return
        text = text[name.end() :].lstrip()
        yield Message(text, fields)


def _leading(text: str, start: int = 0) -> int:
    match = _LEADING.match(text, start)
    return match.end() if match else start
