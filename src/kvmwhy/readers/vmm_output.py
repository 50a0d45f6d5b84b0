"""Whether a VMM wrote into a text: then a guest's console may stand in it, whose lines look like the host's."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.deferred_re import deferred

_OUTPUT: Final = deferred(
    r"^(?!.{0,200}kernel:).{0,80}?(?:KVM internal error|KVM: entry failed|error: kvm run failed|KVM: unknown exit"
    r"|[ER]AX=[0-9a-f]{8,16} [ER]BX=|SeaBIOS \(version|qemu-system-[a-z0-9_]{3,12}[: ]|-machine |-enable-kvm)",
    re.MULTILINE,
)


def has_vmm_output(text: str) -> bool:
    return _OUTPUT.search(text) is not None
