"""An instruction that KVM's emulator carries out, with the MMIO exits that this takes.

What the instruction computes is Unicorn's business: it executes it with scratch pages in place of the
holes, filled with what userspace answered; what it wrote there becomes the write exits. Which accesses
there are, how wide and in which order, follows KVM (see ``mmio``).
"""

from __future__ import annotations

from collections.abc import Generator

from kvmwhy.machine.errors import NoMemoryAtError
from kvmwhy.machine.exits import Hlt
from kvmwhy.machine.model import avx
from kvmwhy.machine.model.context import Context, Work
from kvmwhy.machine.model.env import RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP
from kvmwhy.machine.model.mmio import READS_FIRST, SPINS, Piece, fragments, misaligned, operands
from kvmwhy.machine.model.paging import PAGE, pieces, slot_at
from kvmwhy.machine.model.traps import GP, UD, GuestFault, Hole
from kvmwhy.x86.instruction import Instruction

_ACCESSES = 32  # that one instruction may need found out one by one
_PAGES = 7  # scratch pages
_DESCRIPTOR_READ = 4  # bytes; measured for LGDT in 64-bit mode


class Carrier:
    """One instruction under way."""

    def __init__(self, context: Context, instruction: Instruction) -> None:
        self._context = context
        self._cpu = context.cpu
        self._instruction = instruction
        self._operands = operands(instruction, context.cpu.env, context.mode)
        self._overlay: dict[int, int] = {}  # linear page → scratch page
        self._writes = [piece for piece in self._operands if piece.writes]
        self._move = avx.move_of(instruction, context.settings.kernel)
        if self._move is not None and instruction.mnemonic == "movntdqa" and self._operands:
            self._writes = [self._operands[0]]

    def run(self) -> Work:
        mnemonic = self._instruction.mnemonic or ""
        try:
            # each of them, as any may raise
            hole = any([self._reaches_hole(piece) for piece in self._operands])  # noqa: C419 -- no short cut
        except GuestFault as fault:
            self._context.raise_fault(fault)
            return
        if misaligned(self._instruction, self._operands):
            self._context.raise_fault(GuestFault(GP, 0))
            return
        if hole and mnemonic in SPINS:
            while True:
                yield False
        if hole and mnemonic in READS_FIRST:
            yield from self._read(self._operands[0]._replace(size=_DESCRIPTOR_READ))
            return
        if hole and mnemonic.startswith("popa"):
            yield from self._pop_all()
            return
        yield from self.read_operands()
        for piece in self._writes:
            self._cover(piece)
        if (yield from self._execute()):
            yield from self._report_writes()

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

    def _pop_all(self) -> Work:
        """POPA, as em_popa does it when it has to wait for userspace.

        It starts over after each value, takes those it already has from its cache, and keeps the stack
        pointer that it had come to; so it skips more and more. Measured on 6.18.
        """
        env, width = self._cpu.env, self._operands[0].size
        start, values = 0, list[bytes]()
        while True:
            at, taken = start, 0
            for register in (RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX):
                if register == RSP:
                    at += width
                    continue
                if taken == len(values):
                    linear = self._operands[0].linear + at & 0xFFFF_FFFF
                    gpa = self._gpa(linear, write=False)
                    if gpa is None:
                        return
                    if slot_at(self._context.memory, gpa) is None:
                        self._context.page.mmio(gpa, size=width, data=None)
                        yield True
                        values.append(self._context.page.mmio_data(width))
                        start = at
                        break
                    values.append(self._context.memory.read(gpa, width))
                taken += 1
                at += width
            else:
                break
        for register, value in zip((RDI, RSI, RBP, RBX, RDX, RCX, RAX), values, strict=True):
            kept = 0 if width == 4 else env.regs[register] & ~0xFFFF
            env.regs[register] = kept | int.from_bytes(value, "little")
        env.regs[RSP] = env.regs[RSP] + at & 0xFFFF_FFFF
        env.eip += self._instruction.length

    def _reaches_hole(self, piece: Piece) -> bool:
        """Whether a byte of it has no memory, or may not be written."""
        found = False
        for at, _ in pieces(piece.linear, piece.size):
            page = self._context.space(software=True).page(at, "write" if piece.writes else "read")
            slot = slot_at(self._context.memory, page.gpa)
            found |= slot is None or (slot and piece.writes)
        return found

    def _gpa(self, linear: int, *, write: bool) -> int | None:
        try:
            return self._context.space().page(linear, "write" if write else "read").gpa | linear % PAGE
        except (GuestFault, Hole):
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
            found = [
                (gpa, self._bytes(at, size))
                for at, size in pieces(piece.linear, piece.size)
                if at - at % PAGE in self._overlay and (gpa := self._gpa(at, write=True)) is not None
            ]
            if not found:
                continue
            for gpa, data in found:
                for where, part in fragments(gpa, len(data)):
                    self._context.page.mmio(where, size=part, data=data[where - gpa : where - gpa + part])
                    yield True
            return
