"""A memory error of the host that the VMM tells of, as it got SIGBUS for it (MCEERR_AR, MCEERR_AO).

QEMU, target/i386/kvm/kvm.c and target/arm/kvm.c: kvm_arch_on_sigbus_vcpu, hardware_memory_error. A page of the guest's
is passed on as a machine check; one of QEMU's own ends it.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from msgspec.structs import replace

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.record import At, Failure, HostEvent, Source

FORMAT: Final = "host memory error"
_MOST: Final = 32
_ADDRESS: Final = r"(?P<address>0x[0-9a-f]{1,16})"
_TYPE: Final = r"(?: of type BUS_MCEERR_(?P<type>A[RO]))?"
_FORMS: Final = tuple(
    re.compile(pattern.replace(" ", r"\s{1,8}"))
    for pattern in (
        rf"Guest (?:MCE )?Memory Error at QEMU addr 0x[0-9a-f]{{1,16}} and GUEST addr {_ADDRESS}{_TYPE} injected",
        rf"Hardware memory error at addr {_ADDRESS}{_TYPE} for memory used by (?P<owner>QEMU) itself",
        rf"QEMU got Hardware memory error at addr {_ADDRESS}",
        r"Hardware memory error for memory used by (?P<owner>QEMU) itself",
        r"\bqemu[a-z0-9_-]{0,24}: Hardware memory error!",
    )
)


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """One record of a host's trouble, with an event for each line that tells of it. Never raises."""
    body = text.text
    events = []
    first_of_each = (match for form in _FORMS for match in islice(form.finditer(body), _MOST))
    for match in sorted(first_of_each, key=lambda match: match.start())[:_MOST]:
        fields: dict[str, int | str] = {"vmm": "qemu"}
        for name, value in match.groupdict().items():
            if value is not None:
                fields[name] = int(value, 16) if name == "address" else value
        line = first_line + body.count("\n", 0, match.start())
        events.append(HostEvent(kind="memory-poisoned", at=At(line=line), fields=fields))
    if not events:
        return Evidence()
    first, last = events[0].at.line, events[-1].at.line
    host = host_of(body)
    failure = Failure(
        kind="host-trouble",
        source=Source(path=path, line=first, last_line=last if last != first else None, vmm="qemu"),
        host=replace(host, events=(*host.events, *events)),
        repairs=text.repairs,
    )
    return Evidence((failure,), format=FORMAT)
