"""The same question as in load_store, asked of assembly text: ``ldp x0, x1, [x2]``."""

from __future__ import annotations

import re
from typing import Final

from kvmwhy.arch.arm64.load_store import Form, LoadStore

_OPERATIONS: Final = "add|clr|eor|set|smax|smin|umax|umin"
# Mnemonics of one form each, whatever their operands; the first that fits.
_FORMS: Final[tuple[tuple[str, Form], ...]] = (
    (r"prfu?m|rprfm", "prefetch"),
    (r"(?:ld|st)(?:n?p|psw|gp)|ldiapp|stilp|ldt[np]?p|stt[np]?p", "pair"),
    (r"(?:ld|st)[1-4]r?", "SIMD structure"),
    (r"(?:ld|st)a?l?t?x[rp][bh]?", "exclusive"),
    (r"casp?t?a?l?[bh]?", "compare and swap"),
    (rf"(?:ld|st)t?(?:{_OPERATIONS})a?l?[bh]?|(?:rcw\w{{0,2}})?swpt?p?a?l?[bh]?|rcw\w{{1,8}}", "atomic"),
    (r"(?:ld|st)64bv?0?", "64 bytes"),
    (r"st(?:z|2|z2)?gm?|ldgm?", "memory tag"),
    (r"(?:cpy|set)[a-z]{1,8}", "memory copy or set"),
    (r"ldra[ab]", "authenticated"),
    (r"ld(?:l?ar|apu?r)(?:s?[bhw])?|stl(?:lr|ur|r)(?:[bh])?", "acquire or release"),
    (r"(?:ld|st)[tu]?r(?:s?[bhw])?", "one register"),
)
_BY_MNEMONIC: Final = tuple((re.compile(pattern), form) for pattern, form in _FORMS)
_VECTOR: Final = re.compile(r"[bhsdqv][0-9]{1,2}\b")
_WRITES_BACK: Final = re.compile(r"\]\s{0,4}(?:!|,)")


def form_of(text: str) -> LoadStore | None:
    """What the instruction is; ``None``: no load or store of A64, as far as it is known here."""
    mnemonic, _, operands = text.strip().lower().partition(" ")
    form = next((form for pattern, form in _BY_MNEMONIC if pattern.fullmatch(mnemonic)), None)
    if form is None:
        return None
    operands = operands.strip()
    store = mnemonic.startswith("st") or form in {"compare and swap", "atomic", "memory copy or set"}
    if form in {"one register", "acquire or release"} and _VECTOR.match(operands):
        return LoadStore("SIMD and FP register", store)
    if form in {"one register", "acquire or release", "authenticated"} and _WRITES_BACK.search(operands):
        return LoadStore("write-back", store)
    if form == "one register" and mnemonic.startswith("ld") and operands and "[" not in operands:
        return LoadStore("literal")
    return LoadStore(form, store)
