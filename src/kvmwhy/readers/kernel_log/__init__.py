"""A host's kernel log: the dumps of VMCS and VMCB, and every line by which the kernel speaks of KVM or of its own
trouble.

A dump is printed when a VM entry failed, or for an exit that KVM has no handler for; never for the other
suberrors. What the hardware refused with is in the dump (``reason``, ``exit_code``), but for VMLAUNCH and VMRESUME
that failed themselves: their VM-instruction error goes to userspace only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.kernel_log import dump_record, vmcs
from kvmwhy.readers.kernel_log.dump_assembler import Dump, Dumps
from kvmwhy.readers.kernel_log.host_events import Place, concerns_kvm, events_of
from kvmwhy.readers.kernel_log.host_messages import architectures, roles
from kvmwhy.readers.kernel_log.nearby import Nearby
from kvmwhy.readers.kernel_log.printk import Origin
from kvmwhy.record import REFUSED_AT_START, Cpu, Exit, Failure, Host, HostEvent, Source

_BESIDE: Final = 24  # lines from "unexpected exit reason" to the dump that it announces
_EXPLAINS: Final = 3  # lines from "unexpected exit reason" to the remark that its dump is switched off
_DUMP_OFF: Final = frozenset({"vmcs-dump-off", "vmcb-dump-off"})
_WARNINGS: Final = frozenset({"warning", "virtualization-exception", "kernel-bug", "vmread-failed", "vmwrite-failed"})
_SWITCHED_OFF: Final = "the dump is switched off: the log only shows that a VM entry failed, or an exit had no handler"
_DAMAGED: Final = frozenset({"memory-poisoned"})  # whoever used that memory
_GOES_ON: Final = frozenset({"exchange-as-write", "instruction-as-nop"})  # KVM carried them out, and refused nothing
_EPT_MISCONFIG: Final = 49
_ANY_DEVICES: Final = frozenset({"iommu-fault", "device-reset-failed"})  # a host has them without any guest, too
_ASSIGNED: Final = re.compile(
    r"vfio|kvm|qemu|libvirt|pass-?through|\bRMP|\bVMs?\b|\bguests?\b|virtual machine", re.IGNORECASE
)
_VENDORS: Final = {
    "vmx": "the host's kernel log has a message of KVM on VMX",
    "svm": "the host's kernel log has a message of KVM on SVM",
}


class _Record(NamedTuple):
    """A record in the making: its lines from 0, their times, and its fields."""

    first: int
    last: int
    times: tuple[float | None, ...]
    vendor: str | None
    vcpu: int | None
    fields: dict[str, Any]


def read(
    text: Text, *, path: str | None = None, first_line: int = 1, times: tuple[str | None, ...] = (), writer: str = ""
) -> Evidence:
    """Every failure that KVM logged, in order; registers, controls and exit of those that it dumped.

    ``times`` and ``writer`` are what a collector had put before the lines of the text, where it was taken off.
    """
    origin = Origin(times, writer)
    dumps = Dumps()
    for line in origin.lines(text.text):
        dumps.feed(line)
    places = events_of(text.text, origin)
    nearby = Nearby(places)
    host = _released(host_of(text.text), places)
    records = sorted(_records(dumps.whole(), places), key=lambda record: record.first) or _trouble(places, text.text)
    failures = tuple(
        Failure(
            source=Source(path=path, line=first_line + record.first, vcpu=record.vcpu),
            host=replace(
                _vendor(host, record.vendor),
                events=_placed(nearby.of(record.first, record.last, record.times), first_line),
            ),
            repairs=text.repairs,
            **record.fields,
        )
        for record in records
    )
    return Evidence(failures, format="kernel log" if failures else None)


def _records(dumps: list[Dump], places: tuple[Place, ...]) -> Iterator[_Record]:
    """A dump and the line before it that says why it was printed are one; what no dump follows is one by itself."""
    announced = _announced(places)
    warned = [place for place in places if place.event.kind in _WARNINGS]
    spoken: set[int] = set()
    for dump in dumps:
        before = [
            n
            for n, place in enumerate(announced)
            if n not in spoken
            and place.event.kind == "unexpected-exit"
            and 0 <= dump.first.number - place.line <= _BESIDE
            and dump.may_be_of(place.event)
        ]
        reason = announced[before[-1]] if before else None
        spoken.update(before[-1:])
        fields = dump_record.fields_of(
            dump,
            announced=_exit(reason.event) if reason else None,
            warned=any(0 <= dump.first.number - place.last <= _BESIDE for place in warned),
        )
        vcpu = dump.vcpu if dump.vcpu is not None or reason is None else _vcpu(reason.event)
        first = reason.line if reason else dump.first.number
        times = (reason.event.time if reason else dump.first.time, dump.last.time)
        yield _Record(first, dump.last.number, times, "vmx" if dump.module is vmcs else "svm", vcpu, fields)
    for n, place in enumerate(announced):
        if n not in spoken:
            yield _of_event(place)


def _announced(places: tuple[Place, ...]) -> list[Place]:
    """The lines that are records of their own. That a dump is off is none if the exit stands before it."""
    announced: list[Place] = []
    for place in places:
        kind = place.event.kind
        if (
            kind in _DUMP_OFF
            and announced
            and place.line - announced[-1].line <= _EXPLAINS
            and announced[-1].event.kind not in _DUMP_OFF
        ):
            continue
        if kind in _DUMP_OFF or kind in {"unexpected-exit", "ept-misconfig"}:
            announced.append(place)
    return announced


def _of_event(place: Place) -> _Record:
    event = place.event
    isa = event.fields.get("isa")
    fields: dict[str, Any] = {"arch": "x86", "arch_from": "a line of KVM on x86"}
    if event.kind == "unexpected-exit":
        fields |= {"kind": "internal-error", "exit": _exit(event)}
    elif event.kind == "ept-misconfig":
        # Until 4.x it was given to userspace as an exit that nobody knows (vmx.c, handle_ept_misconfig).
        isa = "vmx"
        fields |= {"kind": "unknown-exit", "exit_reason": 0, "hardware_reason": _EPT_MISCONFIG}
    else:
        isa = "vmx" if event.kind == "vmcs-dump-off" else "svm"
        fields |= {"kind": "other", "damage": (_SWITCHED_OFF,)}
    fields |= _at_rip(event)
    vendor = str(isa) if isa else None
    return _Record(place.line, place.last, (event.time,), vendor, _vcpu(event), fields)


def _exit(event: HostEvent) -> Exit | None:
    reason, isa = event.fields.get("reason"), event.fields.get("isa")
    if not isinstance(reason, int):
        return None
    return Exit(reason=reason, isa="vmx" if isa == "vmx" else "svm" if isa == "svm" else None)


def _at_rip(event: HostEvent) -> dict[str, Any]:
    """``vcpu0, guest rIP: 0x…``: vcpu_unimpl() and its siblings print where the guest was (kvm_host.h)."""
    rip = event.fields.get("rip")
    return {"cpu": Cpu(registers={"rip": rip})} if isinstance(rip, int) else {}


def _vcpu(event: HostEvent) -> int | None:
    vcpu = event.fields.get("vcpu")
    return vcpu if isinstance(vcpu, int) else None


def _trouble(places: tuple[Place, ...], text: str) -> list[_Record]:
    """The one record of a log that has no failure: the host's own trouble, or what KVM refused a guest."""
    of_kvm = [place for place in places if place.event.kind not in _ANY_DEVICES]
    if len(of_kvm) < len(places) and _ASSIGNED.search(text):
        of_kvm = [*places]
    for role, kind in (("fault", "host-trouble"), ("guest", "undef-injected")):
        for place in of_kvm:
            if roles()[place.event.kind] == role and concerns_kvm(place.event):
                fields = _of_arch(place.event) | {"kind": "host-trouble" if place.event.kind in _GOES_ON else kind}
                return [_Record(place.line, place.last, (place.event.time,), None, _vcpu(place.event), fields)]
    for place in places:
        is_refusal = place.event.kind != "sev-init-failed" or "firmware_error" in place.event.fields
        if place.event.kind in _DAMAGED or (place.event.kind in REFUSED_AT_START and is_refusal):
            fields = _of_arch(place.event) | {"kind": "host-trouble"}
            return [_Record(place.line, place.last, (place.event.time,), None, None, fields)]
    return []


def _of_arch(event: HostEvent) -> dict[str, Any]:
    arch = architectures().get(event.kind)
    return {"arch": arch, "arch_from": f"only KVM on {arch} logs this"} if arch else {}


def _vendor(host: Host, vendor: str | None) -> Host:
    if vendor is None or host.vendor is not None:
        return host
    return replace(host, vendor="vmx" if vendor == "vmx" else "svm", vendor_from=_VENDORS[vendor])


def _released(host: Host, places: tuple[Place, ...]) -> Host:
    """The host with the release of its kernel: what the log's first line names, or the reports of its own."""
    if host.kernel is not None:
        return host
    for kind, name in (("kernel-version", "release"), (None, "kernel")):
        named = {
            str(place.event.fields[name])
            for place in places
            if kind in {None, place.event.kind} and name in place.event.fields and "owner" not in place.event.fields
        }
        if len(named) == 1:
            return replace(host, kernel=named.pop())
    return host


def _placed(events: tuple[HostEvent, ...], first_line: int) -> tuple[HostEvent, ...]:
    """The events with their lines counted as the input's."""
    if first_line == 1:
        return events
    return tuple(
        replace(event, at=replace(event.at, line=event.at.line + first_line - 1)) if event.at.line else event
        for event in events
    )
