"""An instruction that KVM's emulator carries out, with the MMIO exits that this takes.

What the instruction computes is Unicorn's business: it executes it with scratch pages in place of the
holes, filled with what userspace answered; what it wrote there becomes the write exits. Which accesses
there are, how wide and in which order, follows KVM (see ``mmio``).
"""

from __future__ import annotations

from collections.abc import Generator

from kvmwhy.arch.x86.instruction import Instruction
from kvmwhy.machine.errors import NoMemoryAtError
from kvmwhy.machine.exits import Hlt
from kvmwhy.machine.model import avx
from kvmwhy.machine.model.context import Context, Work
from kvmwhy.machine.model.mmio import READS_FIRST, SPINS, Piece, emulated_operands, fragments, misaligned
from kvmwhy.machine.model.paging import PAGE, pieces, slot_at
from kvmwhy.machine.model.ports import emulated, is_port_io
from kvmwhy.machine.model.stack import interrupt_real, outer_return_fails, pop_all, return_far_real
from kvmwhy.machine.model.traps import GP, UD, GuestFault

_ACCESSES = 32  # that one instruction may need found out one by one
_PAGES = 7  # scratch pages
FAR_RETURNS = frozenset(("lret", "retf"))
INTERRUPTS = frozenset(("int", "int3", "into"))


class Carrier:
    """One instruction under way."""

    def __init__(self, context: Context, instruction: Instruction) -> None:
        self._context = context
        self._cpu = context.cpu
        self._instruction = instruction
        self._operands = emulated_operands(instruction, context.cpu.env, context.mode)
        self._overlay: dict[int, int] = {}  # linear page → scratch page
        self._writes = [piece for piece in self._operands if piece.writes]
        self._move = avx.move_of(instruction, context.settings.kernel)
        if self._move is not None and instruction.mnemonic == "movntdqa" and self._operands:
            self._writes = [self._operands[0]]

    def run(self) -> Generator[bool, None, bool]:
        """False if the emulator gives up on it after all."""
        mnemonic = self._instruction.mnemonic or ""
        if is_port_io(self._instruction):
            yield from emulated(self._context, self._instruction)
            return True
        try:
            # each of them, as any may raise
            hole = any([self._reaches_hole(piece) for piece in self._operands])  # noqa: C419 -- no short cut
            special = self._on_the_stack(mnemonic, hole=hole)
            if special is not None:
                yield from special
                return True
        except GuestFault as fault:
            self._context.raise_fault(fault)
            return True
        if misaligned(self._instruction, self._operands):
            self._context.raise_fault(GuestFault(GP, 0))
            return True
        if hole and mnemonic in SPINS:
            yield False  # back to the guest, which meets the same again
            return True
        yield from self.read_operands()
        if hole and mnemonic in READS_FIRST:
            return True
        if mnemonic in FAR_RETURNS and not self._context.real and self._outer_return_fails():
            return False
        for piece in self._writes:
            self._cover(piece)
        if (yield from self._execute()):
            yield from self._report_writes()
        return True

    def _on_the_stack(self, mnemonic: str, *, hole: bool) -> Work | None:
        """Those that ``stack`` does, as Unicorn would not show how KVM takes them apart."""
        context, instruction = self._context, self._instruction
        if context.real and mnemonic in INTERRUPTS:
            return interrupt_real(context, instruction)
        if not hole:
            return None
        if mnemonic.startswith("popa"):
            return pop_all(context, instruction, self._operands[0].size)
        if context.real and (mnemonic in FAR_RETURNS or mnemonic.startswith("iret")):
            prefixed = 0x66 in instruction.bytes[:-1]
            return return_far_real(context, instruction, 2 if prefixed != (context.mode.bitness == 16) else 4)
        return None

    def _outer_return_fails(self) -> bool:
        width = self._operands[0].size // (2 if len(self._operands) == 1 else 1)
        data = self._bytes(self._operands[0].linear + width, width)
        return outer_return_fails(self._context, int.from_bytes(data, "little") & 0xFFFF)

    # -- reads -------------------------------------------------------------------------------------

    def read_operands(self) -> Work:
        """Ask userspace for what the instruction reads where no memory is."""
        for piece in self._operands:
            if piece.reads and piece not in self._writes_only:
                yield from self._read(piece)

    @property
    def _writes_only(self) -> list[Piece]:
        return self._writes if self._move is not None and self._move.store else []

    def _read(self, piece: Piece) -> Work:
        for at, size in pieces(piece.linear, piece.size):
            gpa = self._gpa(at, write=False)
            if gpa is None or slot_at(self._context.memory, gpa) is not None:
                continue
            for where, part in fragments(gpa, size):
                self._context.page.mmio(where, size=part, data=None)
                yield True
                view = self._scratch(at)
                if view is not None:
                    view[where % PAGE : where % PAGE + part] = self._context.page.mmio_data(part)

    def _reaches_hole(self, piece: Piece) -> bool:
        """Whether a byte of it has no memory, or may not be written."""
        reaches = False
        for at, _ in pieces(piece.linear, piece.size):
            slot = slot_at(self._context.memory, self._page(at, write=piece.writes))
            reaches |= slot is None or (slot and piece.writes)
        return reaches

    def _page(self, linear: int, *, write: bool) -> int:
        """The page that KVM takes for this one. Raises GuestFault.

        It has the GPA of the exit, and if the offset in the page fits it does not walk the page tables
        (emulator_read_write_onepage): so that of a table without memory can become the operand's.
        """
        gpa = self._context.gpa
        if gpa is not None and (gpa ^ linear) % PAGE == 0 and self._may_use_gpa:
            return gpa & ~(PAGE - 1)
        return self._context.space(software=True).page(linear, "write" if write else "read").gpa

    @property
    def _may_use_gpa(self) -> bool:
        return len({piece.linear for piece in self._operands}) == 1 and not any(
            byte in (0xF2, 0xF3) for byte in self._instruction.bytes[:1]
        )

    def _gpa(self, linear: int, *, write: bool) -> int | None:
        try:
            return self._page(linear, write=write) | linear % PAGE
        except GuestFault:
            return None  # executing it meets the same again

    # -- scratch pages -----------------------------------------------------------------------------

    def _cover(self, piece: Piece) -> None:
        for at, _ in pieces(piece.linear, piece.size):
            gpa = self._gpa(at, write=True)
            if gpa is not None and slot_at(self._context.memory, gpa) is not False:
                self._scratch(at)

    def _scratch(self, linear: int) -> memoryview | None:
        """The scratch page that stands in for this one; at first it has what is in memory."""
        page = linear - linear % PAGE
        if page not in self._overlay:
            if len(self._overlay) >= _PAGES:
                return None
            self._overlay[page] = len(self._overlay) + 1
            self._cpu.scratch(self._overlay[page])[:] = self._content(page)
        return self._cpu.scratch(self._overlay[page])

    def _content(self, page: int) -> bytes:
        try:
            return self._context.memory.read(self._gpa(page, write=False) or 0, PAGE)
        except NoMemoryAtError:
            return bytes(PAGE)

    # -- execution ---------------------------------------------------------------------------------

    def _execute(self) -> Generator[bool, None, bool]:
        """Whether it was carried out."""
        if self._move is not None:
            return self._move_vector()
        env = self._cpu.env
        regs, rip = list(env.regs), env.eip
        for _ in range(_ACCESSES):
            self._cpu.overlay = self._overlay
            stop = self._cpu.step()
            self._cpu.overlay = {}
            # The count is looked at where the next instruction starts, and that one may not be there.
            done = stop.what == "stepped" or (stop.fetching and env.eip != rip)
            if done and self._cpu.bitness == 64 and env.eip >> 47 not in (0, 0x1FFFF):
                # A branch to there: KVM's assign_eip looks before it changes anything.
                env.regs[:], env.eip = regs, rip
                self._context.raise_fault(GuestFault(GP, 0))
                return False
            if done:
                if self._instruction.mnemonic == "hlt":
                    self._context.page.reason(Hlt.number)
                    yield True
                return True
            if stop.what == "interrupt" and not stop.software:
                self._context.raise_fault(GuestFault(stop.vector, stop.error_code))
                return False
            if stop.what != "blocked" or stop.trap is None:
                if stop.what == "invalid":
                    self._context.raise_fault(GuestFault(UD))
                return False
            if isinstance(stop.trap, GuestFault):
                self._context.raise_fault(stop.trap)
                return False
            # An access that the operands do not show, such as that of BT with a register offset.
            piece = Piece(stop.trap.gva, max(1, stop.size), stop.trap.kind == "read", stop.trap.kind == "write")
            if stop.trap.kind == "fetch" or stop.trap.walk:
                return False
            if piece.reads:
                yield from self._read(piece)
            else:
                self._cover(piece)
                self._writes.append(piece)
        return False

    def _move_vector(self) -> bool:
        move = self._move
        assert move is not None  # noqa: S101 -- the caller's condition
        env = self._cpu.env
        if not move.store and move.other is None:
            avx.load(env, move, self._bytes(self._operands[0].linear, move.size))
        elif move.other is not None:
            avx.copy(env, move)
        else:
            self._store(self._operands[0].linear, avx.stored(env, move))
        length = self._instruction.length
        env.eip = env.eip + length & (0xFFFF_FFFF_FFFF_FFFF if self._cpu.bitness == 64 else 0xFFFF_FFFF)
        return True

    def _bytes(self, linear: int, size: int) -> bytes:
        out = b""
        for at, part in pieces(linear, size):
            view = self._cpu.scratch(self._overlay[at - at % PAGE]) if at - at % PAGE in self._overlay else None
            out += bytes(view[at % PAGE : at % PAGE + part]) if view else self._context.space().read(at, part)
        return out

    def _store(self, linear: int, data: bytes) -> None:
        done = 0
        for at, part in pieces(linear, len(data)):
            chunk = data[done : done + part]
            if at - at % PAGE in self._overlay:
                self._cpu.scratch(self._overlay[at - at % PAGE])[at % PAGE : at % PAGE + part] = chunk
            else:
                self._context.space().write(at, chunk)
                self._cpu.forget_code()
            done += part

    # -- writes ------------------------------------------------------------------------------------

    def _report_writes(self) -> Work:
        """KVM keeps the fragments of one access only, so of several the last one is told."""
        for piece in reversed(self._writes):
            writes = [
                (gpa, self._bytes(at, size))
                for at, size in pieces(piece.linear, piece.size)
                if at - at % PAGE in self._overlay and (gpa := self._gpa(at, write=True)) is not None
            ]
            if not writes:
                continue
            for gpa, data in writes:
                for where, part in fragments(gpa, len(data)):
                    self._context.page.mmio(where, size=part, data=data[where - gpa : where - gpa + part])
                    yield True
            return
