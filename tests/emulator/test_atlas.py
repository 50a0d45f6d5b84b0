"""The atlas that comes with the package: what it must know, and that it is small and quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kvmwhy.arch.x86.mode import LONG64, PROT32, REAL16
from kvmwhy.emulator import atlas as module
from kvmwhy.emulator.atlas import Atlas, Measured, Row, atlas
from kvmwhy.emulator.verdict import by_table, verdict

FILE = Path(module.__file__).parent / "data" / "atlas.bin"
NEWEST = (7, 3)


def row(text: str, mode: str = "long64") -> Row:
    found = atlas().look_up(bytes.fromhex(text), mode)
    assert found is not None, text
    return found


def on(version: tuple[int, int], text: str, mode: str = "long64") -> Measured:
    answer = row(text, mode).in_kernel(version)
    assert answer.status == "measured"
    assert answer.verdict is not None
    return answer.verdict


def test_columns() -> None:
    """The oldest and the newest kernel that Debian has are there, and each says what it was measured on."""
    series = {kernel.series for kernel in atlas().kernels if kernel.vendor == "svm" and not kernel.module_args}
    assert {(5, 10), (6, 1), NEWEST} <= series
    for kernel in atlas().kernels:
        assert kernel.bench.startswith(("QEMU emulator version", "Bochs"))
        assert kernel.command.startswith("python -m lab.atlas sweep")
        assert kernel.date >= "2026"
        assert kernel.forms > 500


def test_size() -> None:
    """It does not make the wheel big."""
    assert FILE.stat().st_size < 300_000


# What the kernel's source and other measurements say, each with its kernels: outcome, accesses.
TRUTHS = [
    ("mov", "8b 03", (5, 10), "emulated", "r4"),
    ("mov", "48 89 03", NEWEST, "emulated", "w8"),
    ("movups", "0f 10 03", (5, 10), "emulated", "r8r8"),
    ("movbe, 16 bits", "66 0f 38 f0 03", (6, 1), "fails", ""),
    ("movbe, 16 bits", "66 0f 38 f0 03", (6, 12), "emulated", "r2"),
    ("vmovdqu, ymm", "c5 fe 6f 03", (6, 18), "fails", ""),
    ("vmovdqu, ymm", "c5 fe 6f 03", NEWEST, "emulated", "r8r8r8r8"),
    ("movntdqa", "66 0f 38 2a 03", (6, 1), "fails", ""),
    ("movntdqa", "66 0f 38 2a 03", NEWEST, "emulated", "r8r8"),
    ("fld", "d9 03", NEWEST, "fails", ""),
    ("fnstcw", "d9 3b", (6, 1), "emulated", "w2"),
    ("cmpxchg16b", "48 0f c7 0b", NEWEST, "fails", "r8r8"),
    ("cmpxchg8b", "0f c7 0b", NEWEST, "emulated", "r8w8"),
    ("xadd", "f0 0f c1 03", NEWEST, "emulated", "r4w4"),
    ("popcnt", "f3 0f b8 03", NEWEST, "fails", ""),
    ("crc32", "f2 0f 38 f1 03", NEWEST, "fails", ""),
    ("vmovdqu64", "62 f1 fe 48 6f 03", NEWEST, "fails", ""),
    ("tileloadd", "c4 e2 7b 4b 04 03", NEWEST, "fails", ""),
    ("movdir64b", "66 0f 38 f8 3b", NEWEST, "fails", ""),
    ("iret", "48 cf", NEWEST, "fails", ""),
    ("endbr64", "f3 0f 1e fa", NEWEST, "fails", ""),
    ("sgdt", "0f 01 03", NEWEST, "no-exit", ""),
]


@pytest.mark.parametrize(("name", "text", "version", "kind", "accesses"), TRUTHS, ids=lambda v: str(v).replace(" ", ""))
def test_truths(name: str, text: str, version: tuple[int, int], kind: str, accesses: str) -> None:
    """Known outcomes, by kernel."""
    verdict = on(version, text)
    assert (verdict.kind, verdict.accesses) == (kind, accesses), name


def test_record_has_the_layout_of_its_time() -> None:
    """ndata of a failure: 0 on 5.10, 8 with the instruction's bytes from 5.16 on."""
    assert on((5, 10), "d9 03").ndata == 0
    for version in ((6, 1), NEWEST):
        assert on(version, "d9 03")[1:4] == (1, 8, 15)


def test_modes() -> None:
    """INT is carried out in real mode only; FXSAVE fails in 64-bit mode, elsewhere it never ends."""
    assert on(NEWEST, "cd 21", "real16").works
    assert on(NEWEST, "cd 21", "prot32").kind == "fails"
    assert on(NEWEST, "0f ae 03").kind == "fails"
    assert on(NEWEST, "0f ae 03", "prot32").kind == "no-exit"
    assert on(NEWEST, "0f ae 03", "compat32") == on(NEWEST, "0f ae 03", "prot32")


def test_wrongly_emulated() -> None:
    """TZCNT and LZCNT come out as BSF and BSR; PUSHA loses all stores to a device but one; MOVUPS is right."""
    for text in ("f3 0f bc 03", "f3 0f bd 03"):
        assert on(NEWEST, text).compared == "wrong"
        assert "flags" in on(NEWEST, text).wrong
    assert on(NEWEST, "0f bc 03").compared == "same"
    assert on(NEWEST, "60", "prot32").wrong == ("operand",)
    assert on(NEWEST, "0f 10 03").compared == "same"


def test_between() -> None:
    """A kernel that nobody could measure is answered with its neighbours."""
    answer = row("c5 fe 6f 03").in_kernel((6, 19))
    assert (answer.status, answer.changed) == ("between", True)
    assert answer.below is not None
    assert answer.below[0].series == (6, 18)
    assert not row("8b 03").in_kernel((6, 19)).changed


def test_forms_of_one_key_agree() -> None:
    """What counts as equal forms came out equal, but where a value or the nesting level of ENTER decides."""
    from kvmwhy.emulator.encoding_key import key_of

    kinds: dict[int, set[tuple[str | None, ...]]] = {}
    for one in atlas():
        key = key_of(one.code, one.mode)
        assert key is not None
        amd = zip(one.kernels, one.verdicts, strict=True)  # the only one that was asked about all forms
        kinds.setdefault(key, set()).add(tuple(v and v.kind for kernel, v in amd if kernel.vendor == "svm"))
    mixed = [key for key, seen in kinds.items() if len(seen) > 1]
    assert len(mixed) < 60
    assert len(kinds) > 30_000


def test_verdicts_are_borne_out() -> None:
    """A verdict for a measured kernel says so, whatever its outcome; without a kernel the atlas is not asked."""
    code = bytes.fromhex("c5 fe 6f 03")
    old = verdict(code, mode=LONG64, kernel="6.1.0-56-cloud-amd64")
    assert old.outcome == "no-handler"
    assert "Measured on Linux 6.1" in old.sentence
    assert "fails" in old.sentence
    new = verdict(code, mode=LONG64, kernel="7.3")
    assert "carried out" in new.sentence
    assert "Measured" not in verdict(code, mode=LONG64).sentence
    assert "Measured" not in verdict(code, mode=LONG64, kernel="6.19").sentence
    assert by_table(code, mode=LONG64, version=(7, 3)).sentence in new.sentence
    assert verdict(b"\x8b\x03", mode=PROT32, kernel="7.3").outcome == "handler"
    assert verdict(b"\x8b\x07", mode=REAL16, kernel="7.3").outcome == "handler"


def test_lean() -> None:
    """Explaining without a kernel does not load the atlas, and the atlas does not load the decoder."""
    code = (
        "import sys\nfrom kvmwhy.emulator.verdict import verdict\nfrom kvmwhy.arch.x86.mode import LONG64\n"
        "verdict(b'\\xd9\\x03', mode=LONG64)\nassert 'kvmwhy.emulator.atlas' not in sys.modules\n"
        "verdict(b'\\xd9\\x03', mode=LONG64, kernel='6.1')\nassert 'kvmwhy.emulator.atlas' in sys.modules\n"
        "print([m for m in ('iced_x86', 'rich', 'kvmwhy.machine') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert ast.literal_eval(out) == []


def test_a_missing_atlas_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its file, verdicts are what the table says."""
    from kvmwhy.emulator import atlas_note as seen

    def gone() -> Atlas:
        raise FileNotFoundError("atlas.bin")

    monkeypatch.setattr(seen, "atlas", gone)
    seen._seen.cache_clear()
    assert "Measured" not in verdict(b"\xd9\x03", mode=LONG64, kernel="6.1").sentence
    seen._seen.cache_clear()
