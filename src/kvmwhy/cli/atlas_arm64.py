"""``kvmwhy atlas --arch arm64``: whether KVM on Arm can hand an access of an instruction to a VMM."""

from __future__ import annotations

import sys

from kvmwhy.arch.arm64.assembly import form_of
from kvmwhy.arch.arm64.load_store import LoadStore, load_store
from kvmwhy.cli.output import complain, show
from kvmwhy.render.page import Line
from kvmwhy.render.safe import safe

DONE, NOTHING, USAGE = 0, 1, 2
_WORD = 4
_WITH = "the CPU describes its access to KVM: outside RAM it becomes KVM_EXIT_MMIO"
_WITHOUT = "the CPU does not describe its access to KVM: outside RAM KVM_RUN fails with ENOSYS"
_NEVER = "a prefetch is never trapped"


def run(text: str | None, code: str | None, *, as_json: bool) -> int:
    """Answer for an instruction, by its text or its word; return the exit status."""
    if code is not None:
        try:
            word = _word(code)
        except ValueError:
            complain(f"--bytes takes a word of A64, such as a9401003, not {code!r}")
            return USAGE
        found, name = load_store(word), f"{word:08x}"
    elif text is not None:
        found, name = form_of(text), text
    else:
        complain("say which instruction: kvmwhy atlas --arch arm64 'ldp x0, x1, [x2]'")
        return USAGE
    if found is None:
        complain(f"{name} is no load or store of A64 that is known here")
        return NOTHING
    if as_json:
        _emit(name, found)
    else:
        show(_page(safe(name), found))
    return DONE


def _word(text: str) -> int:
    """As a disassembler prints it: ``a9401003``, 0x or not; four bytes with spaces are in memory's order."""
    parts = text.split()
    if len(parts) == _WORD:
        return int.from_bytes(bytes(int(part, 16) for part in parts), "little")
    word = int(text, 16)
    if not 0 <= word < 1 << 32:
        raise ValueError(text)
    return word


def _emit(name: str, found: LoadStore | str) -> None:
    import msgspec

    from kvmwhy.outputs import Arm64Access

    known = found if isinstance(found, LoadStore) else None
    answer = Arm64Access(
        instruction=safe(name),
        form=known.form if known else "undefined",
        syndrome=known.described if known else None,
    )
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")


def _page(name: str, found: LoadStore | str) -> list[Line]:
    if not isinstance(found, LoadStore):
        return [Line(f"{name}: no instruction that Armv9.4 defines", "answer")]
    words = _NEVER if found.described is None else _WITH if found.described else _WITHOUT
    lines = [Line(f"{name}: {words}", "answer"), Line(found.form, "plain", "Form:     ", 2)]
    if found.described is False:
        lines.append(
            Line(
                "access the device by single loads and stores of one general-purpose register, without write-back",
                "plain",
                "Instead:  ",
                2,
            )
        )
        lines.append(Line("kvmwhy cause arm64-no-syndrome", "plain", "More:     ", 2, whole=True))
    return [*lines, Line("Arm ARM DDI 0487, ISS encoding for an exception from a Data Abort", "dim", "Source:   ", 2)]
