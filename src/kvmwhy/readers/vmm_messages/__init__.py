"""The lines in which VMMs other than QEMU say that KVM_RUN ended badly: most throw the record away.

What a line has is kept: the exit, a number in it, the vCPU, the errno. ``forms`` is the table of what each VMM prints,
after its source; ``tolerant`` reads the words of programs that nobody listed; ``refusal`` knows source code, patches,
strace and prose. Registers that stand by a line are its own (``readers.vmm_registers``). What the VMM never prints, and
whether its process lives on, is data: ``kvmwhy.vmms``.
"""

from __future__ import annotations

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.vmm_messages.assemble import failures_of
from kvmwhy.readers.vmm_messages.scan import messages_of


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """Every failed run that a VMM speaks of, in order."""
    messages = messages_of(text.text)
    if not messages:
        return Evidence()
    failures = failures_of(text, messages, path=path, first_line=first_line)
    return Evidence(failures, format="VMM line")
