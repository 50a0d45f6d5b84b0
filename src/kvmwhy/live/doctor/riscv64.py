"""A riscv64 host: the hypervisor extension, and how far KVM decodes what a guest does to devices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from kvmwhy.live.doctor.finding import Finding
from kvmwhy.live.doctor.kernel_lines import kernel_lines
from kvmwhy.live.host import CpuInfo, read_text

# arch/riscv/kvm/main.c: riscv_kvm_init; the second line's words changed in 7.x.
_STAGE: Final = re.compile(r"kvm \[\d{1,7}\]: (?:using|highest G-stage page table mode is) (Sv\d{2}x4)")
_REFUSED: Final = re.compile(r"kvm \[\d{1,7}\]: (hypervisor extension not available|require SBI [^\n]{1,40})")
_ISA: Final = re.compile(r"^isa\s{0,8}: (rv64[a-z]{1,26})", re.MULTILINE)


def findings(cpu: CpuInfo) -> Iterator[Finding]:
    """In the order of what matters."""
    yield from of_extension(kernel_lines(), read_text("/proc/cpuinfo", 64 << 10) or "")
    yield Finding("cpu", "good", f"CPU {cpu.model or 'unknown'}")
    text = (
        "KVM decodes loads and stores of integer registers; others (floating point, atomic, misaligned) fail, each"
        " leaving SCAUSE, STVAL and HTVAL in the kernel's log"
    )
    yield Finding("capabilities", "note", text, "keep the kernel's log: dmesg | kvmwhy explain -")


def of_extension(lines: str, cpuinfo: str) -> Iterator[Finding]:
    """``lines``: of the kernel's log, which may have lost its beginning."""
    if (refused := _REFUSED.search(lines)) is not None:
        yield Finding(
            "mode", "bad", f"KVM did not start: {refused[1]}", "a CPU with the H extension, and newer firmware"
        )
        return
    isa = _ISA.search(cpuinfo)
    if isa is not None and "h" not in isa[1][4:]:
        yield Finding("mode", "bad", "the CPU has no hypervisor extension", "a CPU with the H extension")
    elif (stage := _STAGE.search(lines)) is not None:
        yield Finding("mode", "good", f"the hypervisor extension is there, guest memory is mapped by {stage[1]}")
    elif isa is not None:
        yield Finding("mode", "good", "the hypervisor extension is there, by /proc/cpuinfo")
    else:
        text = "whether the CPU has the hypervisor extension is not shown by the kernel's log or /proc/cpuinfo"
        yield Finding("mode", "note", text)
