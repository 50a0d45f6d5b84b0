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
from kvmwhy.readers.kernel_log.printk import Line, messages
from kvmwhy.record import HostEvent

_GAP: Final = 16  # lines of others after which a dump is over
_PAUSE: Final = 1.0  # seconds, likewise
_BEFORE: Final = 2  # forms
_MOST_OPEN: Final = 8
_VMCB_HEAD: Final = re.compile(r"(?:\b(SVM|SEV|SEV-ES|SEV-SNP) )?(?:vCPU([0-9]{1,5}) )?VMCB [0-9a-fx(){}]{1,20}, last ")
_CPU: Final = re.compile(r"on CPU ([0-9]{1,5})\b")
_MARKS: Final = ("last attempted VM", "*** ", "VMCB ", "=", ":", "sev_features ")
_XEN: Final = "(XEN)"  # prints VMCSs in another form, of guests that are not KVM's
_LEFT_OVER: Final = 80  # lines
# Registers that many a VMM prints with the same words as the VMCB dumps of 7.x: alone they are no dump of the kernel's.
_ANYBODYS: Final = frozenset(
    (
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip", "rflags", *(f"r{n}" for n in range(8, 16))),
        *("cr0", "cr2", "cr3", "cr4", "efer", "dr6", "dr7"),
    )
)
_FEWEST: Final = 2  # lines of a dump whose head was lost; one alone may be anybody's
# What ftrace puts before a line that a kernel under test prints into its buffer instead of its log.
_TRACED: Final = re.compile(r"\b(?:bprint|bputs|print): ")
_AUTOLOAD: Final = re.compile(r"\bMSR (host autoload|guest autoload|autoload|autostore):")
_AUTOLOADED: Final = re.compile(r"(?<![\w.])[0-9]{1,3}: msr=0x([0-9a-f]{8}) value=0x([0-9a-f]{16})\b")


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
        self.traced = _TRACED.search(line.text) is not None
        self.lines = 1
        self._list: str | None = None  # of MSRs, by its heading

    @property
    def is_whole(self) -> bool:
        return self.module.LAST in self.values

    @property
    def is_the_kernels(self) -> bool:
        """Of a dump whose beginning is missing: whether it can be nobody else's."""
        line = self.first
        is_marked = line.stamped or "kvm" in line.text[: line.start + 16]
        return self.lines >= _FEWEST and (is_marked or not self.values.keys() <= _ANYBODYS)

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

    def may_be_of(self, event: HostEvent) -> bool:
        """Whether a line that names an exit may announce this dump."""
        isa = event.fields.get("isa")
        if isa is not None and isa != ("vmx" if self.module is vmcs else "svm"):
            return False
        vcpu = event.fields.get("vcpu")
        return self.vcpu is None or vcpu is None or vcpu == self.vcpu

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
            self.lines += 1
            return True
        if self._takes_msr(line):
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
            self.lines += 1
        return taken

    def is_tail(self, line: Line) -> bool:
        """Whether a line is of those that come behind what makes a dump whole."""
        forms = self.sections[-1].forms
        last = next((n for n, form in enumerate(forms) if self.module.LAST in form.names), len(forms))
        return any(reading.form > last for reading in self.sections[-1].read(line.text))

    def _takes_msr(self, line: Line) -> bool:
        """An MSR that is loaded or stored with the entry or the exit (vmx.c: vmx_dump_msrs)."""
        if heading := _AUTOLOAD.search(line.text):
            self._list = heading[1].replace(" ", "_")
        elif self._list and (entry := _AUTOLOADED.search(line.text)):
            self.values.setdefault(f"{self._list}_msr_{entry[1]}", int(entry[2], 16))
        else:
            return False
        return True

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
        self._tails: list[Dump] = []  # whole but for their last lines, when the next had begun

    def feed(self, line: Line) -> bool:
        """Whether this line is a part of a dump."""
        if _XEN in line.text:
            return False
        if self._open:
            self._open = [dump for dump in self._open if not dump.is_over(line)]
        if self._tails:
            self._tails = [dump for dump in self._tails if not dump.is_over(line)]
        if self._begin(line):
            return True
        if not self._open or not any(mark in line.text for mark in _MARKS):
            return False
        if any(tail.may_print(line) and tail.is_tail(line) and tail.take(line) for tail in self._tails):
            for dump in (*self._tails, *self._open):
                dump.mixed = dump.mixed or dump.may_print(line)  # the second has begun: it may be its line
            return True
        taken = any(dump.may_print(line) and dump.take(line) for dump in self._open)
        if taken and any(dump.section == len(dump.sections) - 1 for dump in self._open):
            self._tails = []  # the next one is at its own end
        return taken

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
        elif not self._open and (module := _headed(text) or _module_of(line)):
            last = self.found[-1] if self.found else None
            dump = self._add(module, line)
            dump.orphan, dump.lines = True, 0
            # What two dumps that were printed at once have left over is of one of them.
            dump.mixed = last is not None and last.mixed and line.number - last.last.number <= _LEFT_OVER
            return dump.take(line)
        else:
            return False
        return True

    def whole(self) -> list[Dump]:
        """The dumps of which enough was found."""
        return [dump for dump in self.found if dump.values and (not dump.orphan or dump.is_the_kernels)]

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
        whole = [other for other in self._open if other.is_whole and other.may_print(line)]
        self._tails = whole[-1:] if line.caller is None else []
        self._open = [other for other in self._open if other not in whole][-_MOST_OPEN:]
        for other in self._open:
            if other.may_print(line):
                other.mixed = dump.mixed = True
        self.found.append(dump)
        self._open.append(dump)
        return dump


def _module_of(line: Line) -> ModuleType | None:
    """Whose dump a line is from, if its beginning was lost. Each begins the message: traces have some of the labels."""
    for module in (vmcs, vmcb):
        if not any(mark in line.text for mark in module.MARKS):
            continue
        starts = {len(line.text) - len(message.text) for message in messages(line)}
        for section in module.SECTIONS:
            reading = next(section.read(line.text), None)
            if reading and (reading.start in starts or _TRACED.search(line.text)):
                return module
    return None


def _headed(text: str) -> ModuleType | None:
    """Whose second or third heading a line is."""
    for module in (vmcs, vmcb):
        if any(section.name in text for section in module.SECTIONS[1:]):
            return module
    return None


def _cpu(text: str) -> int | None:
    match = _CPU.search(text)
    return int(match[1]) if match else None
