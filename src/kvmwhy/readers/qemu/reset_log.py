"""What ``qemu -d cpu_reset`` logs of a CPU that is reset while it runs: the registers at a triple fault, if it was one.

QEMU prints ``CPU Reset (CPU %d)`` and the state *before* the reset (target/i386/cpu.c: x86_cpu_reset_hold and its
predecessors). KVM_EXIT_SHUTDOWN leads to such a reset, and the state is that of the vCPU then (accel/kvm/kvm-all.c:
kvm_cpu_exec). So do other resets, which QEMU does not tell apart in this log: that is said. At power-on the registers
are zero or those of a reset.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import Evidence
from kvmwhy.readers.host_context import host_of
from kvmwhy.readers.qemu.debug_dump import LONGEST, registers
from kvmwhy.record import Cpu, Failure, Source, Symptom

FORMAT: Final = "QEMU reset log"
_RESET: Final = re.compile(r"^[ \t]{0,8}CPU Reset \(CPU (\d{1,5})\)[ \t]{0,8}$", re.MULTILINE)
_MOST: Final = 2000  # resets that are looked at: the last ones
_KEPT: Final = 16
_PE: Final = 1


def read(text: Text, *, path: str | None = None, first_line: int = 1) -> Evidence:
    """One record for each state in which a CPU was reset in protected mode, counted, in the order of their last."""
    body = text.text
    resets = list(_RESET.finditer(body))[-_MOST:]
    counted: dict[bytes, Failure] = {}
    for n, reset in reversed(list(enumerate(resets))):
        end = min(reset.end() + LONGEST, resets[n + 1].start() if n + 1 < len(resets) else len(body))
        cpu = _registers(body[reset.end() + 1 : end])
        if cpu is None:
            continue
        key = msgspec.msgpack.encode(cpu)  # what follows the last dump is no part of it
        if known := counted.get(key):
            counted[key] = _again(known)
        elif len(counted) < _KEPT:
            line = first_line + body.count("\n", 0, reset.start())
            counted[key] = Failure(
                kind="shutdown",
                arch="x86",
                arch_from="the registers are those of x86",
                source=Source(path=path, line=line, vmm="qemu", vcpu=int(reset[1])),
                symptom=Symptom(kind="reset-logged"),
                seen_at={"symptom": line},
                cpu=cpu,
                host=host_of(body),
                repairs=text.repairs,
            )
    failures = tuple(sorted(counted.values(), key=lambda failure: failure.source.line or 0))
    return Evidence(failures, format=FORMAT if failures else None)


def _registers(dump: str) -> Cpu | None:
    """Those of a CPU that runs a system: in real mode a reset is a boot."""
    cpu = registers(dump)
    return cpu if cpu is not None and (cpu.get("cr0") or 0) & _PE else None


def _again(failure: Failure) -> Failure:
    source = msgspec.structs.replace(failure.source, count=failure.source.count + 1)
    return msgspec.structs.replace(failure, source=source)
