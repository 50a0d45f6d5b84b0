"""Runs guest code on Unicorn until something happens that is not the CPU's own business.

Unicorn translates nothing itself: every page it touches is asked for here (its virtual TLB), so the
walk of ``paging`` is the only one. A page that cannot be had stops the CPU at the instruction that
wanted it, and ``Stop.trap`` says why. Unicorn names the page only; ``locate`` finds the address.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from kvmwhy.arch.x86.instruction import decode_first
from kvmwhy.machine.errors import MachineError, NoMemoryAtError
from kvmwhy.machine.memory import Backing, Memory
from kvmwhy.machine.model import unicorn_state as state
from kvmwhy.machine.model.address import mode_of
from kvmwhy.machine.model.mmio import operands
from kvmwhy.machine.model.paging import PAGE, Linear, Page, Regime, slot_at, translate
from kvmwhy.machine.model.traps import GuestFault, Hole, Kind
from kvmwhy.machine.x86.state import CpuidEntry

if TYPE_CHECKING:
    from unicorn.unicorn_py3.arch.intel import UcIntel
    from unicorn.unicorn_py3.unicorn import Uc, UcError, uc_tlb_entry

_NOWHERE: Final = 1 << 63  # no guest can execute there: it is not canonical
_NOWHERES: Final = (_NOWHERE, _NOWHERE - PAGE)  # Unicorn looks at it, and at the byte before
_TRAPS: Final = 1 << 51  # physical addresses above every guest's
_SCRATCH: Final = (1 << 51) | (1 << 50)
_SCRATCH_PAGES: Final = 8
_KINDS: Final[tuple[Kind, ...]] = ("read", "write", "fetch")
_HLT: Final = b"\xf4"
_FETCH: Final = 18
_ALL: Final = 7
_TLB_FLUSH, _WRITE = 11, 1

What = Literal["halted", "interrupt", "invalid", "blocked", "port", "asked", "stepped"]


class Stop(NamedTuple):
    """Why the CPU stopped. ``vector`` … of an interrupt; ``trap``, ``size`` of a blocked access."""

    what: What
    vector: int = 0
    error_code: int = 0
    software: bool = False
    trap: GuestFault | Hole | None = None
    size: int = 0
    port: int = 0
    is_write: bool = False
    value: int = 0
    fetching: bool = False  # of a blocked access: the instruction itself could not be fetched


def engine() -> UcIntel:
    """A Unicorn CPU that knows the newest instructions Unicorn knows."""
    try:
        import unicorn
        from unicorn import x86_const
        from unicorn.unicorn_py3.arch.intel import UcIntel
    except ImportError:
        raise MachineError("the model needs Unicorn", "pip install 'kvmwhy[model]'") from None
    uc = UcIntel(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    uc.ctl_set_cpu_model(x86_const.UC_CPU_X86_EPYC_ROME)
    uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
    return uc


class Cpu:
    """One CPU. ``env`` is its state while it stands still; ``push`` makes changes to it count."""

    _checked = False

    def __init__(self, memory: Memory, mapped: set[int]) -> None:
        """``mapped`` gets the pages of read-only slots that the guest has read."""
        uc = engine()
        if not Cpu._checked:
            state.check(uc)
            Cpu._checked = True
            uc = engine()
        import unicorn
        from unicorn import x86_const
        from unicorn.unicorn_py3.unicorn import UcError

        self._uc = uc
        self._error: type[UcError] = UcError
        self._memory = memory
        self._mapped = mapped
        self._context = uc.context_save()
        self.env = state.env_of(self._context)
        self._probe_context = uc.context_save()
        self._probe = state.env_of(self._probe_context)
        self._before_context = uc.context_save()
        self.before = state.env_of(self._before_context)  # of a port instruction
        self._undefined: int = unicorn.UC_ERR_INSN_INVALID
        self._stop: Stop | None = None
        self._blocked: Stop | None = None
        self._probing = False
        self._linear = 0
        self._found: tuple[int, int] | None = None
        self.asked = False
        self._between = threading.Lock()  # held while it changes, or acts upon, whether the guest itself runs
        self._in_guest = False
        self.on_ram: Callable[[int, Kind], None] | None = None  # is told of each page that is reached
        self.software_walk = False  # a page table that is not in memory counts as an entry not present
        self.cpuid: tuple[CpuidEntry, ...] = ()
        self.overlay: dict[int, int] = {}  # linear page → scratch page
        self._scratch = ctypes.create_string_buffer(PAGE * (_SCRATCH_PAGES + 1))
        start = ctypes.addressof(self._scratch)
        self._scratch_at = -start % PAGE
        uc.mem_map_ptr(_SCRATCH, PAGE * _SCRATCH_PAGES, _ALL, start + self._scratch_at)
        uc.hook_add(unicorn.UC_HOOK_TLB_FILL, self._fill)
        uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._invalid)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        uc.hook_add(unicorn.UC_HOOK_INSN, self._in, aux1=x86_const.UC_X86_INS_IN)
        uc.hook_add(unicorn.UC_HOOK_INSN, self._out, aux1=x86_const.UC_X86_INS_OUT)
        uc.hook_add(unicorn.UC_HOOK_INSN, self._cpuid, aux1=x86_const.UC_X86_INS_CPUID)
        self._registers = {
            0: x86_const.UC_X86_REG_RAX,
            1: x86_const.UC_X86_REG_RBX,
            2: x86_const.UC_X86_REG_RCX,
            3: x86_const.UC_X86_REG_RDX,
        }

    # -- memory ------------------------------------------------------------------------------------

    def map(self, backing: Backing) -> None:
        self._uc.mem_map_ptr(backing.slot.gpa, backing.slot.size, _ALL, backing.address)

    def unmap(self, backing: Backing) -> None:
        self._uc.mem_unmap(backing.slot.gpa, backing.slot.size)
        self.forget_code()

    def forget_code(self) -> None:
        """Somebody else wrote to memory: what was translated from it may be stale."""
        self._uc.ctl_flush_tb()

    def scratch(self, number: int) -> memoryview:
        """The bytes of a scratch page; ``overlay`` puts it where the guest sees it."""
        at = self._scratch_at + number * PAGE
        return memoryview(self._scratch).cast("B")[at : at + PAGE]

    # -- state -------------------------------------------------------------------------------------

    def pull(self) -> None:
        """Copy the state out of Unicorn."""
        self._uc.context_update(self._context)

    def push(self) -> None:
        """Copy the state into Unicorn, and drop every translation of an address."""
        state.update_hflags(self.env)
        self.env.old_exception = -1
        self._uc.context_restore(self._context)
        self._uc.ctl(_TLB_FLUSH, _WRITE)

    def _number(self, register: int) -> int:
        value = self._uc.reg_read(register)
        return value if isinstance(value, int) else 0

    @property
    def uc(self) -> UcIntel:
        return self._uc

    # -- running -----------------------------------------------------------------------------------

    def run(self) -> Stop:
        """Run from ``env`` until something happens; ``env`` is the state then."""
        self.push()
        with self._between:
            self._in_guest = True
        try:
            stop = self._start(_NOWHERE, 0)
        finally:
            with self._between:
                self._in_guest = False
        if stop.what == "halted" and self.asked and not self._after_hlt():
            return Stop("asked")
        if stop.fetching and stop.trap is not None and (stop.trap.linear ^ self.linear_rip) & ~0xFFF:
            stop = self._approach(stop, stop.trap.linear)
        return self._locate(stop)

    def step(self) -> Stop:
        """Execute one instruction, or one round of a repeated one, for KVM's emulator."""
        on_ram, self.on_ram = self.on_ram, None
        self.push()
        self.forget_code()  # code translated without the step's own hook would run on
        try:
            stop = self._start(_NOWHERE, 1)
            if stop.fetching and stop.trap is not None and (stop.trap.linear ^ self.linear_rip) & ~0xFFF:
                stop = self._last_of_page(stop)
            return self._locate(stop)
        finally:
            self.on_ram = on_ram
            self.forget_code()

    def _last_of_page(self, stop: Stop) -> Stop:
        """Execute the last instruction of a page when the next one has no memory: QEMU looks there first."""
        linear, rip = self.linear_rip, self.env.eip
        instruction = decode_first(self._code(15), bitness=self.bitness, address=rip)
        if instruction is None or not instruction.complete:
            return stop
        self.push()
        again = self._start(linear + instruction.length, 0)
        return Stop("stepped") if again.what == "halted" and self.env.eip != rip else again

    def _start(self, until: int, count: int) -> Stop:
        self._stop = self._blocked = None
        error: UcError | None = None
        try:
            self._uc.emu_start(self.env.eip, until, count=count)
        except self._error as raised:
            error = raised
        self.pull()
        stop, blocked = self._told()
        if stop is not None:
            return stop
        if error is not None:
            # A page that was refused counts only if it is what stopped the CPU; some are mere probes.
            return Stop("invalid") if error.errno == self._undefined or blocked is None else blocked
        return Stop("stepped" if count else "halted")

    def _told(self) -> tuple[Stop | None, Stop | None]:
        """What the hooks have left."""
        return self._stop, self._blocked

    @property
    def linear_rip(self) -> int:
        env = self.env
        if env.efer & state.LMA and env.segs[state.CS].flags & state.LONG:
            return env.eip
        return env.segs[state.CS].base + env.eip & 0xFFFF_FFFF

    @property
    def bitness(self) -> Literal[16, 32, 64]:
        flags = self.env.segs[state.CS].flags
        if self.env.efer & state.LMA and flags & state.LONG:
            return 64
        return 32 if flags & state.BIG else 16

    def _approach(self, stop: Stop, page: int) -> Stop:
        """Run up to the instruction that cannot be fetched whole, so that RIP is at it.

        QEMU reads ahead a block at a time, and a fetch that fails leaves RIP where the block starts.
        """
        linear = self.linear_rip
        room = (page & ~0xFFF) - linear
        if not 0 < room <= PAGE:
            return stop
        code = self._code(room)
        at = 0
        while at < len(code):
            instruction = decode_first(code[at : at + 15], bitness=self.bitness, address=self.env.eip + at)
            if instruction is None or instruction.invalid or not instruction.complete:
                break
            at += instruction.length
        if at == 0:
            return stop
        self.push()
        again = self._start(linear + at, 0)
        return stop if again.what == "halted" and self.linear_rip == linear + at else again

    def _code(self, size: int) -> bytes:
        """Up to ``size`` bytes at RIP, of one page."""
        linear = self.linear_rip
        try:
            page = translate(self._memory, state.regime(self.env), linear, "fetch", system=True)
            return self._memory.read(page.gpa | linear & 0xFFF, min(size, PAGE - linear % PAGE))
        except (GuestFault, Hole, NoMemoryAtError):
            return b""

    # -- the address of an access that stopped the CPU -----------------------------------------------

    def _locate(self, stop: Stop) -> Stop:
        """Find the exact address; Unicorn has told the page."""
        trap = stop.trap
        if stop.what != "blocked" or trap is None:
            return stop
        page = trap.linear & ~0xFFF
        if stop.fetching:
            rip = self.linear_rip
            trap.move_to(rip if rip & ~0xFFF == page else page)
            return stop
        kind: Kind = trap.kind if isinstance(trap, Hole) and not trap.walk else self._kind_of(trap)
        where = self._operand_in(page, kind) or self._probe_for()
        if where is not None and where[0] & ~0xFFF == page:
            trap.move_to(where[0])
            return stop._replace(size=where[1])
        return stop

    def _kind_of(self, trap: GuestFault | Hole) -> Kind:
        if isinstance(trap, Hole):
            return trap.kind
        return "write" if (trap.error_code or 0) & 2 else "read"

    def _operand_in(self, page: int, kind: Kind) -> tuple[int, int] | None:
        instruction = decode_first(self._code(15), bitness=self.bitness, address=self.env.eip)
        if instruction is None or not instruction.complete:
            return None
        if kind == "read" and (instruction.mnemonic or "").startswith("xsave"):
            return None  # what it reads is its header
        for piece in operands(instruction, self.env, mode_of(self.env)):
            first, last = piece.linear, piece.linear + piece.size - 1
            if (piece.writes if kind == "write" else piece.reads) and first <= page | 0xFFF and last >= page:
                return max(first, page), min(last, page | 0xFFF) - max(first, page) + 1
        return None

    def _probe_for(self) -> tuple[int, int] | None:
        """Execute it once more, only to see where it reaches, and put everything back."""
        kept = ctypes.string_at(ctypes.addressof(self.env), ctypes.sizeof(self.env))
        self._probing, self._found = True, None
        self.push()
        self.forget_code()
        try:
            self._start(_NOWHERE, 1)
        finally:
            self._probing = False
            ctypes.memmove(ctypes.addressof(self.env), kept, len(kept))
            self.forget_code()
        return self._found

    # -- what Unicorn asks -------------------------------------------------------------------------

    def _fill(self, uc: Uc, linear: int, access: int, entry: uc_tlb_entry, _: Any) -> bool:
        entry.perms = _ALL
        if linear in _NOWHERES and access == _FETCH:
            entry.paddr = _SCRATCH
            return True
        if self._stop is not None:
            return False  # it has stopped already
        if linear in self.overlay and access != _FETCH:
            entry.paddr = _SCRATCH + self.overlay[linear] * PAGE
            return True
        uc.context_update(self._probe_context)
        kind = _KINDS[access - 16]
        try:
            entry.paddr, entry.perms = self._page(linear, kind)
        except (GuestFault, Hole) as trap:
            if not self._probing:
                self._blocked = Stop("blocked", trap=trap, fetching=kind == "fetch")
                return False
            # No memory of Unicorn's is there, so that its other hook is told the exact address.
            self._linear = linear
            entry.paddr = _TRAPS
        return True

    def _page(self, linear: int, kind: Kind) -> tuple[int, int]:
        regime = state.regime(self._probe)
        try:
            page = self._walk(regime, linear, kind)
        except GuestFault:
            if regime.cpl < 3 or kind == "fetch" or not self._table_at(linear):
                raise
            page = self._walk(regime, linear, kind, system=True)
        readonly = slot_at(self._memory, page.gpa)
        if readonly is None or (readonly and kind == "write"):
            raise Hole(page.gpa, linear, kind, readonly=bool(readonly), rights=page.rights)
        if readonly:
            self._mapped.add(page.gpa // PAGE)
        if self.on_ram is not None:
            self.on_ram(page.gpa, kind)
        writable = page.writable and not readonly
        return page.gpa, 1 | (2 if writable else 0) | (4 if page.executable else 0)

    def _walk(self, regime: Regime, linear: int, kind: Kind, *, system: bool = False) -> Page:
        return Linear(self._memory, regime, system=system, software=self.software_walk).page(linear, kind)

    def _table_at(self, linear: int) -> bool:
        """The CPU reads GDT, LDT and TSS with rights of its own, also at CPL 3."""
        for number in (state.GDT, state.LDT, state.TR):
            table = self._probe.segs[number]
            if table.base & ~0xFFF <= linear <= table.base + table.limit:
                return True
        return False

    def _invalid(self, _uc: Uc, _access: int, address: int, size: int, _value: int, _: Any) -> bool:
        if self._found is None and _TRAPS <= address < _TRAPS + PAGE:
            self._found = (self._linear | address & 0xFFF, size)
        return False

    def _interrupt(self, uc: Uc, number: int, _: Any) -> None:
        uc.context_update(self._probe_context)
        env = self._probe
        if self._stop is None:
            self._stop = Stop("interrupt", number, env.error_code & 0xFFFF_FFFF, bool(env.exception_is_int))
        uc.emu_stop()

    def _in(self, uc: Uc, port: int, size: int, _: Any) -> int:
        self._port(uc, Stop("port", port=port, size=size))
        return 0

    def _out(self, uc: Uc, port: int, size: int, value: int, _: Any) -> None:
        self._port(uc, Stop("port", port=port, size=size, is_write=True, value=value & (1 << 8 * size) - 1))

    def _port(self, uc: Uc, stop: Stop) -> None:
        if self._stop is None:
            uc.context_update(self._before_context)
            self._stop = stop
            uc.ctl(_TLB_FLUSH, _WRITE)  # the rest of the block would run on; it gets no more memory
        uc.emu_stop()

    def _cpuid(self, uc: Uc, _: Any) -> int:
        leaf, index = self._number(self._registers[0]) & 0xFFFF_FFFF, self._number(self._registers[2]) & 0xFFFF_FFFF
        answer = CpuidEntry(leaf)
        for entry in self.cpuid:
            if entry.function == leaf and (not entry.flags & 1 or entry.index == index):
                answer = entry
                break
        for number, value in enumerate((answer.eax, answer.ebx, answer.ecx, answer.edx)):
            uc.reg_write(self._registers[number], value)
        return 1

    def ask_to_stop(self) -> None:
        """From any thread. It has to be said again if the CPU was not running yet.

        What KVM's emulator does, one instruction at a time, is not cut short: half of its accesses would be lost.
        """
        self.asked = True
        with self._between:
            if self._in_guest:
                self._uc.emu_stop()

    def _after_hlt(self) -> bool:
        """Whether it stopped behind a HLT, not because it was asked to: Unicorn does not tell which."""
        env, linear = self.env, self.linear_rip - 1
        try:
            page = translate(self._memory, state.regime(env), linear, "fetch", system=True)
            return self._memory.read(page.gpa | linear & 0xFFF, 1) == _HLT
        except (GuestFault, Hole, NoMemoryAtError):
            return False
