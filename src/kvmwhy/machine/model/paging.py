"""From a linear address to a guest physical one, as the CPU's page walk does it.

SDM vol. 3A, 4.3 (32-bit), 4.4 (PAE), 4.5 (4 and 5 levels), 4.6 (access rights), 4.7 (error codes),
4.8 (accessed and dirty). Reserved bits above MAXPHYADDR 52 and protection keys are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from kvmwhy.machine.errors import NoMemoryAtError
from kvmwhy.machine.memory import Memory
from kvmwhy.machine.model.traps import GP, PF, GuestFault, Hole, Kind

PAGE: Final = 4096
CR0_PE, CR0_WP, CR0_PG = 1 << 0, 1 << 16, 1 << 31
CR4_PSE, CR4_PAE, CR4_LA57, CR4_SMEP, CR4_SMAP = 1 << 4, 1 << 5, 1 << 12, 1 << 20, 1 << 21
EFER_LMA, EFER_NXE = 1 << 10, 1 << 11
RFLAGS_AC = 1 << 18
_P, _W, _U, _A, _D, _PS, _NX = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7, 1 << 63
_ADDRESS: Final = 0x000F_FFFF_FFFF_F000
_RIGHT_USER, _RIGHT_WRITE, _RIGHT_NX = 1, 2, 4


class Regime(NamedTuple):
    """The state that decides how an address is translated."""

    cr0: int
    cr3: int
    cr4: int
    efer: int
    cpl: int
    rflags: int = 0


class Page(NamedTuple):
    """Where a page lies, and what may be done to it without asking again."""

    gpa: int
    writable: bool
    executable: bool
    rights: int


def translate(memory: Memory, regime: Regime, linear: int, kind: Kind, *, system: bool = False) -> Page:
    """The page of ``linear``. Raises GuestFault, or Hole if the page tables are not in memory.

    ``system``: an access the CPU makes for itself (IDT, GDT, TSS, stack of a handler), with the rights
    of CPL 0 whatever CPL is.
    """
    if not regime.cr0 & CR0_PG:
        return Page(linear & 0xFFFF_F000, writable=True, executable=True, rights=_RIGHT_WRITE)
    walk = _Walk(memory, regime, linear, kind, system)
    if regime.efer & EFER_LMA:
        bits = 57 if regime.cr4 & CR4_LA57 else 48
        if linear >> (bits - 1) not in (0, (1 << (65 - bits)) - 1):
            raise GuestFault(GP, 0)
        return walk.wide((bits - 12) // 9)
    walk.linear &= 0xFFFF_FFFF
    return walk.wide(3) if regime.cr4 & CR4_PAE else walk.narrow()


@dataclass
class _Walk:
    memory: Memory
    regime: Regime
    linear: int
    kind: Kind
    system: bool

    def _entry(self, at: int, size: int) -> int:
        try:
            return int.from_bytes(self.memory.read(at, size), "little")
        except NoMemoryAtError:
            raise Hole(at, self.linear, "read", walk=True) from None

    def wide(self, levels: int) -> Page:
        """8-byte entries: PAE with 3 levels, 64-bit paging with 4 or 5."""
        pae = levels == 3
        no_execute = bool(self.regime.efer & EFER_NXE)
        table = self.regime.cr3 & (0xFFFF_FFE0 if pae else _ADDRESS)
        rights = _RIGHT_USER | _RIGHT_WRITE
        used: list[tuple[int, int]] = []
        for level in range(levels, 0, -1):
            shift = 12 + 9 * (level - 1)
            top = pae and level == 3  # a PDPTE: no rights, no A bit, no large page
            at = table + 8 * (self.linear >> shift & (3 if top else 0x1FF))
            entry = self._entry(at, 8)
            if not entry & _P:
                raise self.fault(present=False)
            if entry & _NX and not no_execute:
                raise self.fault(present=True, reserved=True)
            if not top:
                used.append((at, entry))
                rights &= ~(_RIGHT_USER if not entry & _U else 0) & ~(_RIGHT_WRITE if not entry & _W else 0)
                rights |= _RIGHT_NX if entry & _NX else 0
            if level == 1 or (entry & _PS and level in (2, 3) and not top):
                mask = (1 << shift) - 1
                gpa = (entry & _ADDRESS & ~mask) | (self.linear & mask & ~0xFFF)
                return self._finish(gpa, rights, used, 8)
            table = entry & _ADDRESS
        raise AssertionError("a walk ends at level 1")

    def narrow(self) -> Page:
        """4-byte entries, two levels."""
        at = (self.regime.cr3 & 0xFFFF_F000) + 4 * (self.linear >> 22)
        upper = self._entry(at, 4)
        if not upper & _P:
            raise self.fault(present=False)
        used = [(at, upper)]
        if upper & _PS and self.regime.cr4 & CR4_PSE:
            gpa = (upper & 0xFFC0_0000) | (upper >> 13 & 0xFF) << 32 | (self.linear & 0x003F_F000)
            return self._finish(gpa, _rights(upper), used, 4)
        at = (upper & 0xFFFF_F000) + 4 * (self.linear >> 12 & 0x3FF)
        entry = self._entry(at, 4)
        if not entry & _P:
            raise self.fault(present=False)
        used.append((at, entry))
        return self._finish(entry & 0xFFFF_F000, _rights(upper & entry), used, 4)

    def _finish(self, gpa: int, rights: int, used: list[tuple[int, int]], size: int) -> Page:
        regime, kind = self.regime, self.kind
        user, executable = bool(rights & _RIGHT_USER), not rights & _RIGHT_NX
        supervisor = self.system or regime.cpl < 3
        allowed = user or supervisor
        may_write = bool(rights & _RIGHT_WRITE) or (supervisor and not regime.cr0 & CR0_WP)
        if kind == "fetch":
            allowed &= executable and not (supervisor and user and regime.cr4 & CR4_SMEP)
        elif supervisor and user and regime.cr4 & CR4_SMAP and (self.system or not regime.rflags & RFLAGS_AC):
            allowed = False
        if not allowed or (kind == "write" and not may_write):
            raise self.fault(present=True)
        for number, (at, entry) in enumerate(used):
            wanted = entry | _A | (_D if kind == "write" and number == len(used) - 1 else 0)
            if wanted != entry:
                self.memory.write(at, wanted.to_bytes(size, "little"))
        dirty = bool(used[-1][1] & _D) or kind == "write"
        return Page(gpa, may_write and dirty, executable, rights)

    def fault(self, *, present: bool, reserved: bool = False) -> GuestFault:
        regime, fetch = self.regime, self.kind == "fetch"
        code = int(present) | (2 if self.kind == "write" else 0) | (8 if reserved else 0)
        code |= 4 if regime.cpl == 3 and not self.system else 0
        has_fetch_bit = regime.cr4 & CR4_SMEP or (regime.efer & EFER_NXE and regime.cr4 & CR4_PAE)
        code |= 16 if fetch and has_fetch_bit else 0
        return GuestFault(PF, code, self.linear)


def _rights(entry: int) -> int:
    return (_RIGHT_USER if entry & _U else 0) | (_RIGHT_WRITE if entry & _W else 0)


class Linear:
    """The guest's linear address space, for accesses that the model makes itself."""

    def __init__(
        self,
        memory: Memory,
        regime: Regime,
        *,
        system: bool = False,
        software: bool = False,
        on_ram: Callable[[int, Kind], None] | None = None,
    ) -> None:
        """``software``: KVM's own walk, to which a page table that it cannot read is an entry not present.

        ``on_ram`` is told of each access that memory has answered.
        """
        self._on_ram = on_ram
        self._software = software
        self._memory = memory
        self._regime = regime
        self._system = system

    def page(self, linear: int, kind: Kind) -> Page:
        try:
            return translate(self._memory, self._regime, linear, kind, system=self._system)
        except Hole:
            if not self._software:
                raise
            raise _Walk(self._memory, self._regime, linear, kind, self._system).fault(present=False) from None

    def read(self, linear: int, size: int, kind: Kind = "read") -> bytes:
        """Raises GuestFault or Hole."""
        out = b""
        for at, part in pieces(linear, size):
            page = self.page(at, kind)
            gpa = page.gpa | at & 0xFFF
            try:
                out += self._memory.read(gpa, part)
            except NoMemoryAtError:
                raise Hole(gpa, at, kind, rights=page.rights) from None
            if self._on_ram is not None:
                self._on_ram(gpa, kind)
        return out

    def number(self, linear: int, size: int) -> int:
        return int.from_bytes(self.read(linear, size), "little")

    def write(self, linear: int, data: bytes) -> None:
        """Raises GuestFault or Hole; the bytes before it are written, as on a CPU."""
        done = 0
        for at, part in pieces(linear, len(data)):
            page = self.page(at, "write")
            gpa = page.gpa | at & 0xFFF
            slot = slot_at(self._memory, gpa)
            if slot is None or slot:
                raise Hole(gpa, at, "write", readonly=bool(slot), rights=page.rights)
            self._memory.write(gpa, data[done : done + part])
            if self._on_ram is not None:
                self._on_ram(gpa, "write")
            done += part


def slot_at(memory: Memory, gpa: int) -> bool | None:
    """Whether the slot at ``gpa`` is read-only; None where there is none."""
    for slot in memory.slots:
        if slot.gpa <= gpa < slot.end:
            return slot.readonly
    return None


def pieces(linear: int, size: int) -> list[tuple[int, int]]:
    """``size`` bytes, split where a page ends."""
    out = []
    while size > 0:
        part = min(size, PAGE - linear % PAGE)
        out.append((linear, part))
        linear, size = linear + part, size - part
    return out
