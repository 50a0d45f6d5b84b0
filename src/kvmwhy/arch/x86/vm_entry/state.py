"""What a CPU was to enter a guest with, as far as the evidence shows it.

Two sources. A dump of the VMCS or VMCB has what the CPU was given. A VMM's register dump has what the
guest sees, and KVM turns that into what the CPU is given: that step is modelled here, where it matters.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from kvmwhy.record import ControlBlock, Cpu

Vendor = Literal["vmx", "svm"]

CR0_PE, CR0_NE, CR0_WP, CR0_NW, CR0_CD, CR0_PG = 1 << 0, 1 << 5, 1 << 16, 1 << 29, 1 << 30, 1 << 31
CR4_PAE, CR4_LA57, CR4_VMXE, CR4_PCIDE, CR4_CET = 1 << 5, 1 << 12, 1 << 13, 1 << 17, 1 << 23
EFER_LME, EFER_LMA, EFER_SVME = 1 << 8, 1 << 10, 1 << 12
RFLAGS_TF, RFLAGS_IF, RFLAGS_VM = 1 << 8, 1 << 9, 1 << 17
_SECONDARY: Final = 1 << 31  # of the primary controls: activate secondary controls
_UNRESTRICTED: Final = 1 << 7
_IA32E_GUEST: Final = 1 << 9  # of the VM-entry controls
_SEV_ES: Final = 1 << 2

CODE_AND_DATA: Final = ("cs", "ss", "ds", "es", "fs", "gs")


class NotShownError(LookupError):
    """A value, or a property of the host, that this evidence does not show."""


class Loaded(NamedTuple):
    """A segment register as the CPU is given it. ``rights`` as in the VMCS: SDM vol. 3C, table 24-2."""

    name: str
    selector: int
    base: int
    limit: int
    rights: int

    @property
    def type(self) -> int:
        return self.rights & 0xF

    @property
    def s(self) -> int:
        return self.rights >> 4 & 1

    @property
    def dpl(self) -> int:
        return self.rights >> 5 & 3

    @property
    def present(self) -> int:
        return self.rights >> 7 & 1

    @property
    def long(self) -> int:
        return self.rights >> 13 & 1

    @property
    def big(self) -> int:
        return self.rights >> 14 & 1

    @property
    def granular(self) -> int:
        return self.rights >> 15 & 1

    @property
    def usable(self) -> bool:
        return not self.rights >> 16 & 1

    @property
    def rpl(self) -> int:
        return self.selector & 3


class State:
    """One guest state before one entry. Every accessor raises NotShownError where the evidence has a gap."""

    def __init__(
        self,
        cpu: Cpu,
        control: ControlBlock | None,
        vendor: Vendor,
        *,
        unrestricted: bool,
        wide_addresses: bool | None = None,
    ) -> None:
        self.cpu = cpu
        self.vendor = vendor
        self.fields = control.fields if control and control.kind == {"vmx": "vmcs", "svm": "vmcb"}[vendor] else {}
        self.dumped = bool(self.fields)
        self._prefix = {"vmx": "guest", "svm": "save"}[vendor]
        self.unrestricted = unrestricted
        self._wide = wide_addresses

    def register(self, name: str) -> int:
        """What the CPU was given if that was dumped; else what the guest sees."""
        value = self.fields.get(f"{self._prefix}_{name}", self.cpu.registers.get(name))
        if self.vendor == "svm" and self.fields.get("nested_ctl", 0) & _SEV_ES and "sev_features" not in self.fields:
            raise NotShownError("the registers of an SEV-ES guest, which are encrypted")
        if value is None:
            raise NotShownError(name.upper())
        return value

    def field(self, name: str) -> int:
        """A field of the control block."""
        if name not in self.fields:
            raise NotShownError(name.replace("_", " "))
        return self.fields[name]

    def segment(self, name: str) -> Loaded:
        """What the CPU was given; of a register dump, what KVM makes of it.

        KVM makes what is not present unusable and, with unrestricted guest, what is not accessed accessed:
        vmx_segment_access_rights and vmx_set_segment in arch/x86/kvm/vmx/vmx.c.
        """
        parts = [self.fields.get(f"guest_{name}_{part}") for part in ("selector", "base", "limit", "ar_bytes")]
        selector, base, limit, rights = parts
        if selector is not None and base is not None and limit is not None and rights is not None:
            return Loaded(name.upper(), selector, base, limit, rights)
        seen = self.cpu.segments.get(name)
        if seen is None:
            raise NotShownError(name.upper())
        rights = seen.attributes >> 8 & 0xF0FF
        if self.vendor == "vmx" and not seen.present:
            rights |= 1 << 16
        if self.vendor == "vmx" and self.unrestricted and name != "ldt":
            rights |= 1
        return Loaded(name.upper(), seen.selector, seen.base, seen.limit, rights)

    def table(self, name: str) -> tuple[int, int]:
        """Base and limit of GDTR or IDTR."""
        base, limit = self.fields.get(f"guest_{name}_base"), self.fields.get(f"guest_{name}_limit")
        if base is not None and limit is not None:
            return base, limit
        seen = self.cpu.segments.get(name)
        if seen is None:
            raise NotShownError(f"{name.upper()}R")
        return seen.base, seen.limit

    @property
    def secondary(self) -> int:
        """The secondary controls, all clear unless they are switched on."""
        return self.field("secondary_controls") if self.field("cpu_based_controls") & _SECONDARY else 0

    @property
    def long(self) -> bool:
        """VM entry goes to IA-32e mode."""
        if "vm_entry_controls" in self.fields:
            return bool(self.fields["vm_entry_controls"] & _IA32E_GUEST)
        if self.dumped and self.vendor == "vmx":
            raise NotShownError("the VM-entry controls")
        return bool(self.register("efer") & EFER_LMA)

    @property
    def vm86(self) -> bool:
        return bool(self.register("rflags") & RFLAGS_VM)

    @property
    def injected(self) -> int:
        """The VM-entry interruption-information field; 0 if nothing is injected."""
        info = self.field("vm_entry_interruption_info")
        return info if info >> 31 & 1 else 0

    @property
    def wide_addresses(self) -> bool | None:
        """Whether the CPU has linear addresses of 57 bits: certain if either side uses them."""
        for value in (self.fields.get("guest_cr4", self.cpu.registers.get("cr4")), self.fields.get("host_cr4")):
            if value is not None and value & CR4_LA57:
                return True
        return self._wide


def unrestricted_of(control: ControlBlock | None) -> bool | None:
    """Whether the VMCS has unrestricted guest on; ``None`` where that was not dumped."""
    if control is None or control.kind != "vmcs":
        return None
    fields = control.fields
    primary, secondary = fields.get("cpu_based_controls"), fields.get("secondary_controls")
    if primary is None or secondary is None:
        return None
    return bool(primary & _SECONDARY and secondary & _UNRESTRICTED)
