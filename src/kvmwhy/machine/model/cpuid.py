"""The CPUID that a modelled KVM offers: an x86-64-v3 CPU of the vendor, without a hypervisor's leaves."""

from __future__ import annotations

from typing import Final

from kvmwhy.machine.model.kernel import Vendor
from kvmwhy.machine.x86.state import CpuidEntry

_INDEXED: Final = 1  # KVM_CPUID_FLAG_SIGNIFICANT_INDEX
_XSAVE_SIZE: Final = 576 + 256


def supported(vendor: Vendor) -> tuple[CpuidEntry, ...]:
    name = b"AuthenticAMD" if vendor == "svm" else b"GenuineIntel"
    ebx, edx, ecx = (int.from_bytes(name[at : at + 4], "little") for at in (0, 4, 8))
    signature = 0x00A2_0F10 if vendor == "svm" else 0x0003_06C3
    return (
        CpuidEntry(0, eax=0xD, ebx=ebx, ecx=ecx, edx=edx),
        # FPU … SSE2; SSE3, SSSE3, FMA, CX16, SSE4, MOVBE, POPCNT, AES, XSAVE, AVX, F16C, RDRAND
        CpuidEntry(1, eax=signature, ebx=0x0000_0800, ecx=0x7ED8_3203, edx=0x0783_FBFF),
        # FSGSBASE, BMI1, AVX2, SMEP, BMI2, ERMS, INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT
        CpuidEntry(7, 0, _INDEXED, ebx=0x009C_07A9),
        CpuidEntry(0xD, 0, _INDEXED, eax=7, ebx=_XSAVE_SIZE, ecx=_XSAVE_SIZE),
        CpuidEntry(0xD, 1, _INDEXED),
        CpuidEntry(0xD, 2, _INDEXED, eax=256, ebx=576),
        CpuidEntry(0x8000_0000, eax=0x8000_0008, ebx=ebx, ecx=ecx, edx=edx),
        CpuidEntry(0x8000_0001, ecx=0x121, edx=0x2C10_0800),  # LAHF, LZCNT, PREFETCHW; SYSCALL, NX, 1G, RDTSCP, LM
        CpuidEntry(0x8000_0008, eax=0x3030),
    )
