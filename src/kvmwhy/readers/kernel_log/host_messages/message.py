"""What a message of the host's kernel is: a slug, what it says about whom, and its format strings of all ages."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kvmwhy.readers.kernel_log.host_messages.printf import Format

Role = Literal[
    "fault",  # KVM, the kernel or the hardware under them is at fault
    "refusal",  # a set-up was refused: by KVM, the firmware of the host or of a secure processor
    "guest",  # KVM refused something that a guest did, and the VM goes on
    "note",  # what the host is, or what happened to it
]


class HostMessage(NamedTuple):
    slug: str
    role: Role
    formats: tuple[Format, ...]


def message(slug: str, role: Role, *formats: Format) -> HostMessage:
    return HostMessage(slug, role, formats)
