"""Whether KVM's emulator can carry out an instruction, since when, and if not, why not.

Follows the order of x86_decode_insn() and x86_emulate_insn() in arch/x86/kvm/emulate.c. Only the first
instruction is looked at, and only as many of its bytes as the answer needs: whether all its bytes were
there is the instruction decoder's question.
"""

from __future__ import annotations

from msgspec import Struct

from kvmwhy.abi.uname import series_of
from kvmwhy.arch.x86.mode import Mode
from kvmwhy.emulator import caveats, result
from kvmwhy.emulator.opcode_table import OLDEST, Row, Slot, Version, by_modrm, slot, version_of
from kvmwhy.emulator.prefixes import Prefixes, read_prefixes
from kvmwhy.emulator.result import Outcome, Verdict, older_record
from kvmwhy.emulator.vex import is_vex, vex_verdict

__all__ = ["Outcome", "Verdict", "verdict"]

_RESERVED_NOPS_SINCE: Version = (5, 8)
_CET_SINCE: Version = (6, 18)
_MOVNTDQA_RIGHT: Version = (7, 1)
_ANY_CLFLUSH: Version = (3, 11)  # the newest table read that has one entry for all of 0f ae, CLFLUSH's
_REAL = ("real16", "vm86")  # what KVM's table calls real: everything below protected mode
_ESCAPE = {"0": "", "0f": "0f ", "0f38": "0f 38 ", "0f3a": "0f 3a "}


class _Opcode(Struct, frozen=True):
    """A legacy-encoded opcode with its rows. ``at`` is the index of the opcode byte itself."""

    prefixes: Prefixes
    map: str
    byte: int
    at: int
    modrm: int | None
    found: Slot


def verdict(code: bytes, *, mode: Mode, kernel: str | None = None, newest: Version | None = None) -> Verdict:
    """What KVM's emulator makes of the first instruction in ``code``.

    Where that was measured on a kernel of this series (see ``atlas``), the sentence says so. ``newest``: the
    newest release that the host can run, where its name is not known.
    """
    version = series_of(kernel)
    by_source = by_table(code, mode=mode, version=version)
    if version is None and newest is not None and by_source.since is not None and by_source.outcome == "handler":
        first = version_of(by_source.since)
        if first is not None and newest < first:
            return older_record(by_source.since, by_source.slot, newest)
    if version is not None:
        from kvmwhy.emulator.atlas_note import seen

        if measured := seen(code, mode.name, version, by_source.outcome):
            return by_source._replace(sentence=f"{by_source.sentence} {measured}")
    return by_source


def by_table(code: bytes, *, mode: Mode, version: Version | None) -> Verdict:
    """The same by the table that was read from the kernel's source, and by nothing else."""
    long = mode.bitness == 64
    prefixes = read_prefixes(code, long=long)
    at = prefixes.end
    if at >= len(code):
        return result.torn(code, at)
    byte = code[at]
    after = code[at + 1] if at + 1 < len(code) else None
    if byte != 0x0F:
        if is_vex(code, at, long=long):
            return vex_verdict(code, prefixes, version)
        if (other := _other_encoding(byte, after, long)) is not None:
            return other
        opcode_map = "0"
    elif after is None:
        return result.torn(code, at)
    elif after in (0x38, 0x3A):
        opcode_map, at = f"0f{after:02x}", at + 2
    else:
        opcode_map, at = "0f", at + 1
    if at >= len(code):
        return result.torn(code, at)
    byte = code[at]
    entry = slot(opcode_map, byte)
    if entry is None:  # map 0f3a
        return result.no_handler(f"{_ESCAPE[opcode_map]}{byte:02x}", opcode_map, byte)
    modrm = code[at + 1] if at + 1 < len(code) else None
    return _legacy(code, _Opcode(prefixes, opcode_map, byte, at, modrm, entry), mode, version)


def _other_encoding(byte: int, after: int | None, long: bool) -> Verdict | None:
    """EVEX, XOP and REX2 share their first byte with BOUND, POP and AAD."""
    if byte == 0x62 and (long or (after is not None and after >= 0xC0)):
        return result.never(
            "62 (EVEX)", "KVM's emulator has never handled EVEX instructions (AVX-512 and what came after)."
        )
    if byte == 0x8F and after is not None and after & 0x18:
        return result.never("8f (XOP)", "KVM's emulator has never handled AMD's XOP instructions.")
    if byte == 0xD5 and long:
        return result.injects_ud("d5 (REX2)", "KVM does not know the APX prefix D5 and gives the guest #UD.")
    return None


def _legacy(code: bytes, opcode: _Opcode, mode: Mode, version: Version | None) -> Verdict:
    prefixes, rows = opcode.prefixes, opcode.found.rows
    if opcode.modrm is not None:
        rows = by_modrm(rows, opcode.modrm)
    elif opcode.found.modrm:
        if len({(row.outcome, row.since) for row in rows}) > 1:
            return result.torn(code, opcode.at)
        rows = tuple(row for row in rows[:1] if not row.prefix)
    split = bool(rows and rows[0].prefix)
    name = _name(opcode, split)
    if (opcode.map, opcode.byte) == ("0f", 0xAE) and version is not None and version <= _ANY_CLFLUSH:
        last = ".".join(map(str, _ANY_CLFLUSH))
        sentence = f"Kernels up to {last}, at least, take {name} for CLFLUSH, and do nothing."
        return Verdict("handler", None, False, None, name, sentence, caveats.ANY_CLFLUSH)
    if split:
        if prefixes.conflict:
            return result.never(
                name,
                f"KVM cannot decode this opcode ({name}) with a 66 prefix and an F2 or F3 prefix at once; "
                "compilers do not write such code.",
            )
        rows = tuple(row for row in rows if row.prefix == prefixes.mandatory)
    if not rows:
        return result.no_handler(name, opcode.map, opcode.byte)
    row = _by_mode(rows, mode.bitness == 64)
    if row is None:
        return result.injects_ud(
            name, f"This instruction ({name}) does not exist in 64-bit mode; KVM gives the guest #UD."
        )
    if row.limit == "lea-register":
        return _lea_register(row, name, version)
    if row.outcome == "none":
        return result.no_handler(name, opcode.map, opcode.byte)
    if row.limit == "reserved-nop" and version is not None and version < _RESERVED_NOPS_SINCE:
        return result.no_handler(name, opcode.map, opcode.byte)
    if row.version is not None and version is not None and version < row.version:
        older = result.too_old(row.since, name, version)
        return older._replace(limit=caveats.BACKPORTED) if row.limit == "clflushopt" else older
    if row.outcome == "ud":
        return result.injects_ud(name, f"This opcode ({name}) is undefined for KVM: the guest gets #UD.")
    if prefixes.lock and ("Lock" not in row.flags or (opcode.modrm is not None and opcode.modrm >= 0xC0)):
        return result.lock_not_allowed(name)
    if "Prot" in row.flags and mode.name in _REAL:
        return result.injects_ud(
            name, f"This instruction ({name}) exists in protected mode only; KVM gives the guest #UD."
        )
    if row.outcome == "empty" or _gives_up(row, code, opcode, mode):
        if row.limit == "no-rex-w":
            name += ", REX.W"
        return result.gives_up(name, caveats.GIVES_UP[row.limit].format(name=row.mnemonic.partition(" ")[0].upper()))
    return _handler(row, name, opcode, mode, version)


def _by_mode(rows: tuple[Row, ...], long: bool) -> Row | None:
    for row in rows:
        if not row.mode or (row.mode == "64") is long:
            return row
    return None


def _gives_up(row: Row, code: bytes, opcode: _Opcode, mode: Mode) -> bool:
    """Conditions that mode and bytes decide; the others stay conditions (limits.CONDITIONAL)."""
    match row.limit:
        case "real-only":
            return mode.name != "real16"
        case "fxsave" | "sysenter":
            return mode.bitness == 64
        case "no-rex-w":
            return opcode.prefixes.rex_w
        case "enter-level":
            level = opcode.at + 3  # after the 16-bit frame size
            return level < len(code) and code[level] != 0
        case _:
            return False


def _handler(row: Row, name: str, opcode: _Opcode, mode: Mode, version: Version | None) -> Verdict:
    limit = caveats.CONDITIONAL.get(row.limit)
    if "Cet" in row.flags and mode.name not in _REAL and (version is None or version >= _CET_SINCE):
        limit = caveats.CET if limit is None else f"{limit} {caveats.CET}"
    since = None if row.since == "old" else row.since
    sentence = (
        f"KVM can carry out this instruction ({name}): every kernel since {OLDEST}, at least, has a handler."
        if since is None
        else f"KVM can carry out this instruction ({name}) since Linux {since}."
    )
    return Verdict("handler", since, False, limit, name, sentence, _caveat(row, opcode, version))


def _caveat(row: Row, opcode: _Opcode, version: Version | None) -> str | None:
    f3 = opcode.prefixes.repeat == 0xF3
    match row.limit:
        case "tzcnt" if f3:
            return caveats.TZCNT.format("BSF", "TZCNT")
        case "lzcnt" if f3:
            return caveats.TZCNT.format("BSR", "LZCNT")
        case "wbnoinvd" if f3:
            return caveats.WBNOINVD
        case "movntdqa" if version is None or version < _MOVNTDQA_RIGHT:
            return caveats.MOVNTDQA
        case "xchg" if opcode.modrm is not None and opcode.modrm < 0xC0:
            return caveats.ATOMIC
        case _:
            return caveats.ATOMIC if opcode.prefixes.lock else None


def _lea_register(row: Row, name: str, version: Version | None) -> Verdict:
    if version is not None and row.version is not None and version < row.version:
        sentence = f"KVM carries out this invalid form of LEA ({name}) up to 5.19."
        return Verdict("handler", None, False, None, name, sentence, caveats.LEA_REGISTER)
    sentence = f"This is an invalid form of LEA ({name}); KVM has refused it since 6.0."
    return Verdict("no-handler", None, False, caveats.LEA_REGISTER, name, sentence)


def _name(opcode: _Opcode, split: bool) -> str:
    """The slot in words: ``0f ae /4, memory, no prefix``. Details only where the table asks for them."""
    name = f"{_ESCAPE[opcode.map]}{opcode.byte:02x}"
    grouped = opcode.found.modrm
    if opcode.modrm is not None and (grouped or split):
        if any(row.reg is not None for row in opcode.found.rows):
            name += f" /{opcode.modrm >> 3 & 7}"
        name += ", register" if opcode.modrm >= 0xC0 else ", memory"
    if opcode.map != "0" and (grouped or split):
        prefix = opcode.prefixes.mandatory
        name += ", no prefix" if prefix == "none" else f", prefix {prefix}"
    return name
