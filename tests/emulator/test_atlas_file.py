"""emulator.atlas_file and emulator.atlas: a small atlas there and back, and damage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmwhy.emulator.atlas import Atlas
from kvmwhy.emulator.atlas_file import DEFINED, FORCED, Entry, Kernel, pack
from kvmwhy.emulator.encoding_key import key_of
from kvmwhy.emulator.measured import KINDS, Measured
from kvmwhy.emulator.packed import AtlasError
from kvmwhy.emulator.wording import say, since, spans


def kernel(release: str, vendor: str = "svm", module_args: str = "") -> Kernel:
    return Kernel(vendor, release, "#1", "a CPU", "a bench", module_args, "2026-11-22", "a command", 1, 2)


WORKS = Measured("emulated", accesses="r8r8", compared="same")
FAILS = Measured("fails", 1, 8, 15)
WRONG = Measured("emulated", accesses="w8w8", compared="wrong", wrong=("operand", "xmm"))
KERNELS = (
    *(kernel("5.10.0-46"), kernel("6.1.0-56"), kernel("6.19.2"), kernel("7.3.4")),
    kernel("6.1.0-56", "vmx", "ept=0"),
)


def entry(text: str, *verdicts: Measured | None, flags: int = DEFINED) -> Entry:
    code = bytes.fromhex(text)
    key = key_of(code, "long64")
    assert key is not None
    return Entry(key, code, flags, verdicts)


def small() -> Atlas:
    return Atlas(
        pack(
            KERNELS,
            [
                entry("66 0f 38 2a 13", FAILS, FAILS, WRONG, WORKS, FAILS),
                entry("8b 13", WORKS, WORKS, WORKS, WORKS, None),
                entry("c8 10 00 00", WORKS, WORKS, WORKS, WORKS, None),
                entry("c8 10 00 01", FAILS, FAILS, FAILS, FAILS, None),
                entry("9b", None, FAILS, FAILS, None, None, flags=FORCED),
            ],
        )
    )


def test_look_up() -> None:
    """Equal forms are found and said to be so; of several with one key, the one with these bytes."""
    atlas = small()
    row = atlas.look_up(bytes.fromhex("66 0f 38 2a 47 08"), "long64")
    assert row is not None
    assert (row.exact, row.ignored, row.code.hex()) == (False, "", "660f382a13")
    assert row.verdicts == (FAILS, FAILS, WRONG, WORKS, FAILS)
    wide = atlas.look_up(bytes.fromhex("48 8b 13 90 90"), "long64")
    assert wide is not None
    assert (wide.exact, wide.ignored) == (False, "REX.W")
    level = atlas.look_up(bytes.fromhex("c8 10 00 01"), "long64")
    assert level is not None
    assert level.exact
    assert level.verdicts[0] == FAILS
    other = atlas.look_up(bytes.fromhex("c8 00 01 05"), "long64")
    assert other is not None
    assert (other.exact, other.verdicts[0]) == (False, WORKS)
    assert atlas.look_up(b"\x0f\x58\x03", "long64") is None
    assert atlas.look_up(b"\x8b\x13", "vm86") is None
    assert atlas.look_up(b"\x8b\x13", "prot32") is None
    assert atlas.verdicts(bytes.fromhex("66 0f 38 2a 07"), "long64") == row.verdicts
    assert atlas.verdicts(bytes.fromhex("48 8b 13"), "long64") is None


def test_between_is_never_interpolated() -> None:
    """A kernel that was not measured is answered with its neighbours, and whether they differ."""
    row = small().look_up(bytes.fromhex("66 0f 38 2a 13"), "long64")
    assert row is not None
    assert row.in_kernel((6, 1)).verdict == FAILS
    answer = row.in_kernel((6, 12))
    assert (answer.status, answer.verdict, answer.changed) == ("between", None, True)
    assert answer.below == (KERNELS[1], FAILS)
    assert answer.above == (KERNELS[2], WRONG)
    assert not row.in_kernel((6, 0)).changed
    assert row.in_kernel((8, 0)).status == "after"
    assert row.in_kernel((4, 4)).status == "before"
    assert row.in_kernel((6, 1), "vmx").status == "unknown"  # module parameters make it another column
    partly = small().look_up(b"\x9b", "long64")
    assert partly is not None
    assert partly.technique == "forced"
    assert partly.in_kernel((5, 10)).status == "before"


def test_words() -> None:
    """Spans join neighbours of one outcome; a wrong result is called wrong."""
    row = small().look_up(bytes.fromhex("66 0f 38 2a 13"), "long64")
    assert row is not None
    assert [len(span.kernels) for span in spans(row)] == [2, 1, 1]
    assert since(row) == "between 6.1 (not yet) and 6.19"
    assert say(WRONG).startswith("carried out: writes 8 + 8 bytes; WRONG: the operand in memory, XMM registers")
    assert say(FAILS) == "fails: KVM_EXIT_INTERNAL_ERROR, suberror 1"


verdicts = st.builds(
    Measured,
    st.sampled_from(KINDS),
    st.integers(0, 300),
    st.integers(0, 16),
    st.integers(0, 15),
    st.sampled_from(["", "r4", "r8r8w2"]),
    st.sampled_from(["no", "same", "wrong"]),
    st.sampled_from([(), ("rax",), ("flags", "xmm")]),
)


@settings(max_examples=50)
@given(st.dictionaries(st.binary(min_size=2, max_size=15), st.tuples(verdicts, st.none() | verdicts), max_size=20))
def test_round_trip(forms: dict[bytes, tuple[Measured, Measured | None]]) -> None:
    """What is packed is found again, byte for byte and verdict for verdict."""
    known = {code: key for code in forms if (key := key_of(code, "long64")) is not None}
    entries = [Entry(known[code], code, DEFINED, forms[code]) for code in known]
    atlas = Atlas(pack(KERNELS[:2], entries))
    assert len(atlas) == len(known)
    assert {row.code: row.verdicts for row in atlas} == {code: forms[code] for code in known}


@given(st.data())
def test_damage(data: st.DataObject) -> None:
    """A torn or changed atlas raises AtlasError, or reads as an atlas; nothing else comes out."""
    good = pack(KERNELS[:1], [entry("8b 13", WORKS), entry("d9 03", FAILS)])
    at = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.sampled_from(["cut", "flip"]))
    bad = bytearray(good)
    if change == "cut":
        del bad[at:]
    else:
        bad[at] ^= data.draw(st.integers(1, 255))
    try:
        list(Atlas(bytes(bad)))
    except AtlasError:
        return
    assert change == "flip"


def test_no_atlas() -> None:
    """Other files, other versions and bombs are refused."""
    for data in (b"", b"kvmwhy atlas\n", b"\x7fELF" + bytes(40), pack([], [])[:13] + b"\x09" + bytes(12)):
        with pytest.raises(AtlasError):
            Atlas(data)
