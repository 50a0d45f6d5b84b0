"""Dumps of VMCS and VMCB put together from the lines of a log, and kept apart where two CPUs print at once.

The kernel prints a dump line by line without a lock. With ``printk.caller`` each line names who printed
it; without, a line goes to the oldest unfinished dump that still lacks it, and both dumps are marked: a
value may be the other CPU's.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import Final

from kvmwhy.readers.kernel_log import vmcb, vmcs
from kvmwhy.readers.kernel_log.format_strings import Section
from kvmwhy.readers.kernel_log.printk import Line

_GAP: Final = 16  # lines of others after which a dump is over
_PAUSE: Final = 1.0  # seconds, likewise
_BEFORE: Final = 2  # forms
_MOST_OPEN: Final = 8
_VMCB_HEAD: Final = re.compile(r"(?:\b(SVM|SEV|SEV-ES|SEV-SNP) )?(?:vCPU([0-9]{1,5}) )?VMCB [0-9a-fx(){}]{1,20}, last ")
_CPU: Final = re.compile(r"on CPU ([0-9]{1,5})\b")
# What a dump whose beginning was lost is known by.
_ORPHAN: Final = re.compile(
    r"\b[CDSEFG]S: +sel=0x|\bEntryControls=|\b[cdsefg]s: +s: [0-9a-f]{4} a: |\bexit_info1: +[0-9a-f]{16}"
)
_MARKS: Final = ("last attempted VM", "*** ", "VMCB ", "=", ":", "sev_features ")


class Dump:
    """One dump in the making. ``values`` by the names of the forms; the first of two values stays."""

    def __init__(self, module: ModuleType, line: Line) -> None:
        self.module = module
        self.first = self.last = line
        self.section = -1  # no heading yet
        self.filled: set[tuple[int, int]] = set()
        self.values: dict[str, int] = {}
        self.mixed = False
        self.vcpu: int | None = None
        self.host_cpu: int | None = None
        self.vm_type: str | None = None
        self.orphan = False

    @property
    def is_whole(self) -> bool:
        return self.module.LAST in self.values

    @property
    def sections(self) -> tuple[Section, ...]:
        sections: tuple[Section, ...] = self.module.SECTIONS
        return sections

    def is_over(self, line: Line) -> bool:
        """Too much has been said by others since; where each line names who printed it, only time counts."""
        if self.first.caller is None and line.number - self.last.number > _GAP:
            return True
        return line.time is not None and self.last.time is not None and abs(line.time - self.last.time) > _PAUSE

    def may_print(self, line: Line) -> bool:
        return line.caller is None or self.first.caller is None or line.caller == self.first.caller

    def heading(self, line: Line) -> int | None:
        """Which section begins here, if it is one that this dump still has before it."""
        for number, section in enumerate(self.sections):
            if number > self.section and section.name in line.text:
                return number
        return None

    def take(self, line: Line) -> bool:
        """Take what of this line the dump still lacks; whether there was anything."""
        if (number := self.heading(line)) is not None:
            self.section = number
            self.last = line
            return True
        taken = False
        # The section that is being printed first; a line that only a later one has says that its heading was lost.
        for section in range(max(self.section, 0), len(self.sections)):
            for reading in self.sections[section].read(line.text):
                key = (section, reading.form)
                if key in self.filled or self._may_be_earlier(section, reading.form):
                    continue
                if self._may_be_later(section, reading.form):
                    continue
                self.filled.add(key)
                self.section = max(self.section, section)
                for name, value in reading.values.items():
                    self.values.setdefault(name, value)
                taken = True
            if taken:
                break
        if taken:
            self.last = line
        return taken

    def _may_be_earlier(self, section: int, form: int) -> bool:
        """Whether the section that is being printed, whose heading was the last one seen, has this line as well."""
        text = self.sections[section].forms[form].text
        return any(
            other.text == text for at in range(max(self.section, 0), section) for other in self.sections[at].forms
        )

    def _may_be_later(self, section: int, form: int) -> bool:
        """Whether a later section prints the same, and not all that stands before it here has been seen.

        Where a heading is lost, the host's EFER and PAT would be taken for the guest's.
        """
        later = {other.text for following in self.sections[section + 1 :] for other in following.forms}
        forms = self.sections[section].forms
        if forms[form].text not in later:
            return False
        before = [n for n in range(form) if forms[n].text not in later][-_BEFORE:]
        return not all((section, n) in self.filled for n in before)


class Dumps:
    """All dumps of a log, fed line by line, in the order in which they began."""

    def __init__(self) -> None:
        self.found: list[Dump] = []
        self._open: list[Dump] = []

    def feed(self, line: Line) -> bool:
        """Whether this line is a part of a dump."""
        if self._open:
            self._open = [dump for dump in self._open if not dump.is_over(line)]
        if self._begin(line):
            return True
        if not self._open or not any(mark in line.text for mark in _MARKS):
            return False
        return any(dump.may_print(line) and dump.take(line) for dump in self._open)

    def _begin(self, line: Line) -> bool:
        text = line.text
        if vmcs.HEAD in text:
            self._add(vmcs, line).host_cpu = _cpu(text)
        elif vmcb.HEAD in text:
            dump = self._add(vmcb, line)
            dump.host_cpu = _cpu(text)
            if head := _VMCB_HEAD.search(text):
                dump.vm_type = head[1]
                dump.vcpu = int(head[2]) if head[2] else None
        elif vmcs.GUEST in text:
            self._open_section(vmcs, line)
        elif vmcb.CONTROL in text:
            self._open_section(vmcb, line)
        elif not self._open and (found := _ORPHAN.search(text)):
            module = vmcs if "=" in found[0] else vmcb
            dump = self._add(module, line)
            dump.orphan = True
            return dump.take(line)
        else:
            return False
        return True

    def _open_section(self, module: ModuleType, line: Line) -> None:
        """The first heading: of a dump whose head line went before, or, before 5.15, of a new one."""
        for dump in self._open:
            if dump.module is module and dump.section < 0 and not dump.orphan and dump.may_print(line):
                dump.take(line)
                return
        self._add(module, line).take(line)

    def _add(self, module: ModuleType, line: Line) -> Dump:
        """A new dump ends those that are whole; beside one that is not, both are in doubt."""
        dump = Dump(module, line)
        self._open = [other for other in self._open if not (other.is_whole and other.may_print(line))][-_MOST_OPEN:]
        for other in self._open:
            if other.may_print(line):
                other.mixed = dump.mixed = True
        self.found.append(dump)
        self._open.append(dump)
        return dump


def _cpu(text: str) -> int | None:
    found = _CPU.search(text)
    return int(found[1]) if found else None
