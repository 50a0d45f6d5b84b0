"""What a VMM never prints, and where it is found: in its process while that lives, or beside the next run."""

from __future__ import annotations

from typing import Final

from kvmwhy.vmms import VMMS

_SEVERAL: Final = frozenset({"suberror", "data"})  # a suberror is asked for with its words
_ATTACH: Final = "`kvmwhy attach PID` reads them while its process lives"
_WATCH: Final = "`kvmwhy watch` beside the next run takes them from the kernel"


def never_printed(vmm: str | None, field: str) -> str | None:
    """How to get a field of the record that this VMM never prints; ``None`` if it may, or is not known."""
    known = VMMS.get(vmm or "")
    if known is None or field not in known.never_prints:
        return None
    says = f"never printed by {known.name}"
    if field == "registers":  # kvm_run has none, and only QEMU has a monitor
        return f"{says}; `kvmwhy watch` beside the next run shows RIP"
    how = f"{_ATTACH}, else {_WATCH}" if known.lives_on is None else _ATTACH if known.lives_on else _WATCH
    return f"{says}; {how if field in _SEVERAL else how.replace(' them ', ' it ')}"
