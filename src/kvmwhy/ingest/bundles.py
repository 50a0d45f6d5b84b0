"""What a file of a bundle is for, by its path: sosreport, supportconfig, must-gather, or a directory laid out like one.

A bundle is what a support tool collects from one host. Its guest logs say little of the host; the files beside them do.
Layouts: sos 4 (sos/report/plugins), supportutils 3 (bin/supportconfig), oc adm must-gather.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from msgspec import Struct

from kvmwhy.deferred_re import deferred

Role = Literal[
    "uname", "cpuinfo", "lscpu", "dmidecode", "lsmod", "parameter", "domain", "node", "supportconfig", "virt"
]

MOST: Final = 4 << 20  # bytes: a file that tells of a host is small

# (what the path ends with, what the file is). Everything before is the bundle's own directory.
_ENDINGS: Final[tuple[tuple[str, Role], ...]] = (
    (r"sos_commands/kernel/uname_-a|uname", "uname"),
    (r"proc/cpuinfo", "cpuinfo"),
    (r"sos_commands/processor/lscpu|lscpu", "lscpu"),
    (r"sos_commands/hardware/dmidecode|dmidecode", "dmidecode"),
    (r"sos_commands/kernel/lsmod|lsmod", "lsmod"),
    (r"sys/module/(?:kvm|kvm_intel|kvm_amd|vfio_iommu_type1|ccp)/parameters/[a-z0-9_]{1,40}", "parameter"),
    (r"(?:etc/libvirt|run/libvirt|var/run/libvirt)/qemu/[^/]{1,200}\.xml", "domain"),
    (r"cluster-scoped-resources/core/nodes/[^/]{1,200}\.yaml", "node"),
    (r"(?:basic-environment|hardware|modules|boot|kvm)\.txt", "supportconfig"),
    (r"sos_commands/systemd/systemd-detect-virt|systemd-detect-virt", "virt"),
)
# What all these end with, so that other paths cost no pattern; a parameter has a name of its own.
_ENDS: Final = (
    "uname_-a", "uname", "cpuinfo", "lscpu", "dmidecode", "lsmod", ".xml", ".yaml", ".txt", "systemd-detect-virt",
)  # fmt: skip
_PATTERNS: Final = tuple((deferred(rf"(?:^|/)(?P<rest>{ending})$"), role) for ending, role in _ENDINGS)


class Member(Struct, frozen=True):
    """A file of a bundle: whose bundle it is, what it is, and its path within."""

    root: str
    role: Role
    path: str


def member_of(path: str) -> Member | None:
    """What the file is for, or ``None``: nothing of a host."""
    if not path.endswith(_ENDS) and "/parameters/" not in path:
        return None
    for pattern, role in _PATTERNS:
        if match := pattern.search(path):
            return Member(path[: match.start("rest")], role, match["rest"])
    return None


def in_bundle(path: str, roots: frozenset[str]) -> str | None:
    """The innermost of the bundles that this file lies in."""
    inside = [root for root in roots if path.startswith(root)]
    return max(inside, key=len, default=None)


def domain_of(path: str) -> str | None:
    """The name of the libvirt domain whose log or definition this is."""
    match = re.search(r"(?:^|/)(?:log/libvirt/qemu|libvirt/qemu)/([^/]{1,200})\.(?:log(?:\.[0-9]{1,3})?|xml)$", path)
    return match[1] if match else None
