"""What a QEMU's command line says of its guest: its name, and the libvirt domain that it is."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NamedTuple

from kvmwhy.live.process import Vmm
from kvmwhy.live.qemu_socket import split

# qemuDomainSetPrivatePaths: "domain-" and a shortened "ID-NAME", in which only these characters are kept.
_DOMAIN_DIRECTORY: Final = re.compile(r"(/[^\s,\"]{1,200})/domain-(\d{1,10})-([^/\s,\"]{1,80})/")
_SYSTEM: Final = "/var/lib/libvirt"


class Domain(NamedTuple):
    """A domain of libvirt, which has its QEMU's monitor for itself."""

    name: str
    uri: str


def guest_name(vmm: Vmm) -> str | None:
    """``-name NAME`` or ``-name guest=NAME``, as QEMU's options are written."""
    for option, value in pairwise(vmm.command):
        if option in {"-name", "--name"}:
            first, *others = split(value)
            if "=" not in first:
                return first or None
            keys = dict(part.split("=", 1) for part in (first, *others) if "=" in part)
            return keys.get("guest") or None
    return None


def domain_of(vmm: Vmm) -> Domain | None:
    """By the directory that libvirt makes for each domain of QEMU, and names on its command line."""
    name = guest_name(vmm)
    if name is None:
        return None
    for argument in vmm.command:
        if match := _DOMAIN_DIRECTORY.search(argument):
            return Domain(name, "qemu:///system" if match[1].startswith(_SYSTEM) else "qemu:///session")
    return None
