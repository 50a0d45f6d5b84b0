"""What ran a guest: this host's KVM, or a model of one. Whoever reads the result has to know."""

from __future__ import annotations

import platform

from kvmwhy.contract import MachinePart
from kvmwhy.machine import KvmMachine, Machine, NoKvmError, NotPermittedError


def what_runs(machine: Machine, on: str) -> MachinePart:
    """Where a guest runs: this host's KVM, or a model of which kernel, and why that."""
    if isinstance(machine, KvmMachine):
        return MachinePart(on="kvm", kernel=platform.release())
    why = None if on == "model" else unusable()
    return MachinePart(
        on="model", kernel=getattr(machine, "kernel_release", None), vendor=getattr(machine, "vendor", None), why=why
    )


def unusable() -> str | None:
    """Why /dev/kvm is not used; None if it can be."""
    try:
        KvmMachine().close()
    except (NoKvmError, NotPermittedError) as error:
        return str(error)
    return None


def sentence(part: MachinePart) -> str:
    """The same for a person."""
    if part.on == "kvm":
        return f"On this host's KVM (Linux {part.kernel})."
    which = f"Linux {part.kernel}, {part.vendor}" if part.kernel else "no particular kernel"
    why = f", for lack of /dev/kvm ({part.why})" if part.why else ""
    return f"On a model of KVM ({which}){why}: what it reports is modelled, not this host's."
