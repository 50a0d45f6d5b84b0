"""The layout of suberror 3: which word is which, in every version that raised it.

2 words in the oldest kernels; 3, or 4 with EPT_MISCONFIG, up to 5.8 (M:70bcd708dfd1); 4, or 5 with
EPT_MISCONFIG, in 5.9-6.13; always 5 from 6.14 on (M:704fc6021b9e), now on AMD as well.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.x86 import vmx

ALL_ONES = (1 << 64) - 1  # INVALID_GPA


class Delivery(Struct, frozen=True):
    """Which word of suberror 3 is which; ``None`` where this version has none."""

    qualification: int | None
    qualification_fresh: bool
    address: int | None
    cpu: int | None
    rest: tuple[int, ...]


def delivery_layout(data: tuple[int, ...]) -> Delivery:
    """Words 2 and up. With four, the last is the GPA for EPT_MISCONFIG (≤ 5.8), else the CPU (5.9 on)."""
    basic = data[1] & 0xFFFF if len(data) > 1 else None
    misconfig = basic == vmx.EPT_MISCONFIG
    # Five words come from 5.9-6.13 with EPT_MISCONFIG, from 6.14 on with anything.
    fresh = len(data) >= 5 and not misconfig
    address = cpu = None
    if len(data) == 4:
        address, cpu = (data[3], None) if misconfig else (None, data[3])
    elif len(data) >= 5:
        address, cpu = data[3], data[4]
    return Delivery(data[2] if len(data) > 2 else None, fresh, address, cpu, data[5:])
