"""All signs of an origin, by what they look at."""

from __future__ import annotations

from typing import Final

from kvmwhy.diagnosis.knowledge.sign import Sign
from kvmwhy.diagnosis.knowledge.signs import circumstances, code, entry, host, run_errno, setup, triple_fault, vmm

SIGNS: Final[tuple[Sign, ...]] = (
    *host.SIGNS,
    *entry.SIGNS,
    *code.SIGNS,
    *run_errno.SIGNS,
    *setup.SIGNS,
    *triple_fault.SIGNS,
    *vmm.SIGNS,
    *circumstances.SIGNS,
)
