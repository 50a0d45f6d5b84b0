"""A triple fault explained by what is left of the CPU: its registers, its tables and its stack."""

from __future__ import annotations

from kvmwhy.arch.x86.exception_delivery import DF, chain, is_shutdown, undeliverable
from kvmwhy.arch.x86.paging import Read
from kvmwhy.record import Cpu, Fault


def faults_by_tables(cpu: Cpu, read: Read, first: Fault | None) -> tuple[Fault, ...]:
    """The exceptions from ``first`` on; if that is not known, the double fault, which must have failed. Empty: unclear.

    A CPU shuts down because it cannot deliver a double fault, whatever came before.
    """
    if first is not None and is_shutdown(faults := chain(first, cpu, read)):
        return faults
    broken = undeliverable(DF, cpu, read)
    if broken is None:
        return ()
    return (Fault(vector=DF, rip=cpu.get("rip"), by="tables", broken=broken.what, at=broken.at, value=broken.value),)
