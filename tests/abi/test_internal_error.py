"""Every layout of suberror 1, against vectors worked out by hand from the kernel's code."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.abi import encode_page
from kvmwhy.abi.internal_error import (
    EmulationFailure,
    LayoutError,
    decode_emulation,
    encode_emulation,
    least_words,
)
from kvmwhy.abi.kvm_run import UNION, decode_page

INSN = bytes.fromhex("d9004889c30f0bc3909090909090 90".replace(" ", ""))
EVENT: Any = {
    "reason": 0x30,
    "info1": 0x1122334455667788,
    "info2": 0x99AABBCCDDEEFF00,
    "intr_info": 0x80000B0E,
    "error_code": 2,
}
BYTES = "01000000000000000fd9004889c30f0bc390909090909090"  # flags, insn_size, insn_bytes
NO_BYTES = "0000000000000000"

# (what the union holds from offset 32 on: suberror, ndata, data[]; and what it means)
VECTORS = [
    ("0100000003000000" + BYTES, EmulationFailure("bytes-5.14", 1, INSN)),
    (
        "0100000004000000" + BYTES.replace("01", "03", 1) + "3000000000000000",
        EmulationFailure("positional", 3, INSN, reason=0x30),
    ),
    (
        "0100000007000000" + BYTES + "3000000000000000887766554433221100ffeeddccbbaa990e0b008002000000",
        EmulationFailure("v3", 1, INSN, **EVENT),
    ),
    (
        "0100000005000000" + NO_BYTES + "3000000000000000887766554433221100ffeeddccbbaa990e0b008002000000",
        EmulationFailure("v3-no-bytes", 0, None, **EVENT),
    ),
    (
        "0100000007000000" + BYTES + "30000000887766554433221100ffeeddccbbaa990e0b00800200000000000000",
        EmulationFailure("packed", 1, INSN, **EVENT),
    ),
    (
        "0100000008000000" + BYTES + "3000000000000000887766554433221100ffeeddccbbaa990e0b0080000000000200000000000000",
        EmulationFailure("final", 1, INSN, **EVENT),
    ),
    (
        "0100000006000000" + NO_BYTES + "3000000000000000887766554433221100ffeeddccbbaa99"
        "0e0b0080000000000200000000000000",
        EmulationFailure("final-no-bytes", 0, None, **EVENT),
    ),
]


def words_of(union: str) -> tuple[int, ...]:
    raw = bytes.fromhex(union)
    ndata = struct.unpack_from("<I", raw, 4)[0]
    words = struct.unpack_from(f"<{ndata}Q", raw, 8)
    assert len(raw) == 8 + 8 * ndata
    return words


@pytest.mark.parametrize(("union", "failure"), VECTORS, ids=[v[1].layout for v in VECTORS])
def test_golden_vectors_both_ways(union: str, failure: EmulationFailure) -> None:
    """Each published layout decodes to the same event, and encodes back to the same bytes."""
    reading = decode_emulation(words_of(union))
    assert reading.failure == failure
    assert not reading.ambiguous
    assert encode_emulation(failure) == words_of(union)
    page = encode_page.emulation_failure_in(failure)
    assert page[UNION : UNION + len(union) // 2].hex() == union


def test_sgx_in_the_final_form_carries_address_and_size() -> None:
    """Eight words without bytes and reason ENCLS are SGX's debug words, not the skip variant."""
    words = (0, 60, 0x1122334455667788, 0, 0, 0, 0x7F0012345000, 8)
    reading = decode_emulation(words)
    assert reading.failure.layout == "final-no-bytes"
    assert reading.failure.debug == (0x7F0012345000, 8)
    assert not reading.ambiguous


def test_sgx_before_the_flags_protocol() -> None:
    """Two words are 5.13's address and size; the first must not be taken for flags."""
    failure = decode_emulation((0x7F0012345000, 8)).failure
    assert (failure.layout, failure.flags, failure.debug) == ("sgx-5.13", None, (0x7F0012345000, 8))


def test_skip_variant_and_final_with_debug_words_cannot_be_told_apart() -> None:
    """Flags 0 with eight words fits two layouts: both are reported, none is guessed."""
    reading = decode_emulation((0, 0, 0, 0x30, 0x184, 0, 0, 0))
    assert {reading.failure.layout, *(a.layout for a in reading.also)} == {"final-no-bytes", "skip"}


def test_v3_and_the_packed_picture_with_little_data_are_ambiguous() -> None:
    """With a zero error code and a zero low half of info1, v3 and packed have the same bits."""
    reading = decode_emulation((0, 0x31, 0, 0, 0))
    assert [reading.failure.layout, *(a.layout for a in reading.also)] == ["v3-no-bytes", "packed-no-bytes"]


def test_no_words_are_the_old_kernels() -> None:
    """ndata 0 is a layout of its own: nothing may be read from stale data."""
    assert decode_emulation((), 0).failure == EmulationFailure("none")


def test_real_report_of_2023() -> None:
    """The words of a report on the kvm list of 2023-10-10: XSAVE64 [RDI], fifteen bytes fetched."""
    words = (1, 0x41C03127AE0F480F, 0x8B4865CA010FC489, 0x31, 0, 0, 0, 0)
    failure = decode_emulation(words).failure
    assert failure.insn == bytes.fromhex("480fae2731c04189c40f01ca65488b")
    assert (failure.layout, failure.reason) == ("final", 0x31)


def test_a_cut_record_is_read_as_far_as_it_goes() -> None:
    """Five words of unknown more are a final form cut short, not the five-word prototype."""
    reading = decode_emulation((0, 0x30, 0x584, 0, 0), cut=True)
    failure = reading.failure
    assert (failure.layout, failure.reason, failure.info1, failure.error_code) == (
        "final-no-bytes",
        0x30,
        0x584,
        None,
    )
    assert any("only the first 5 words" in r for r in reading.remarks)


def test_impossible_ndata_is_named_and_survived() -> None:
    """ndata 2**32-1, which no consumer checks, is clamped and said."""
    reading = decode_emulation((0,) * 16, 2**32 - 1)
    assert any(str(2**32 - 1) in r for r in reading.remarks)


def test_insn_size_255_shows_fifteen_bytes() -> None:
    """An insn_size that no fetch window has is named; the bytes there are shown."""
    reading = decode_emulation((1, 0x00_0102_0304_0506_FF, 7, 0x30, 0, 0, 0, 0))
    assert reading.failure.insn is not None
    assert len(reading.failure.insn) == 15
    assert any("insn_size is 255" in r for r in reading.remarks)


def test_unknown_flags_keep_the_bytes_and_all_words() -> None:
    """A flag of some future kernel does not hide the ABI part, and no word is dropped."""
    words = (0x5, 0x90909090_909000D9 << 8 & (2**64 - 1) | 2, 0x9090909090909090, 11, 12, 13, 14, 15, 16)
    failure = decode_emulation(words).failure
    assert failure.layout == "unknown"
    assert failure.insn == b"\xd9\x00"
    assert failure.debug == (11, 12, 13, 14, 15, 16)
    assert failure.flags == 5


u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
insns = st.binary(min_size=1, max_size=15)
events = st.fixed_dictionaries({"reason": u32, "info1": u64, "info2": u64, "intr_info": u32, "error_code": u32})


LAYOUTS: Any = [
    "none",
    "sgx-5.13",
    "bytes-5.14",
    "final",
    "final-no-bytes",
    "positional",
    "v3",
    "v3-no-bytes",
    "packed",
    "packed-no-bytes",
    "skip",
]


@st.composite
def failures(draw: st.DrawFn) -> EmulationFailure:
    layout = draw(st.sampled_from(LAYOUTS))
    event: Any = draw(events)
    match layout:
        case "none":
            return EmulationFailure("none")
        case "sgx-5.13":
            return EmulationFailure("sgx-5.13", debug=(draw(u64), draw(u64)))
        case "bytes-5.14":
            return EmulationFailure("bytes-5.14", 1, draw(insns))
        case "positional":
            insn = draw(st.none() | insns)
            return EmulationFailure("positional", 2 if insn is None else 3, insn, reason=event["reason"])
        case "final" | "final-no-bytes":
            debug = draw(st.lists(u64, max_size=4).map(tuple))
            insn = draw(insns) if layout == "final" else None
            return EmulationFailure(layout, 0 if insn is None else 1, insn, **event, debug=debug)
        case _:
            has_bytes = layout in {"v3", "packed"}
            insn = draw(insns) if has_bytes else None
            return EmulationFailure(layout, int(has_bytes), insn, **event)


@given(failures())
def test_what_is_encoded_is_among_the_readings(failure: EmulationFailure) -> None:
    """decode(encode(x)) finds x: as the reading, or as one of those reported as fitting too."""
    words = encode_emulation(failure)
    reading = decode_emulation(words, len(words))
    assert failure in (reading.failure, *reading.also)


@given(st.lists(u64, max_size=20), st.none() | u32)
def test_any_words_are_read_without_an_exception(words: list[int], ndata: int | None) -> None:
    """The page is guest- and VMM-writable: no words may crash the reader."""
    reading = decode_emulation(words, ndata)
    if reading.failure.insn is not None:
        assert len(reading.failure.insn) <= 15


@given(events, st.binary(max_size=15), st.lists(u64, max_size=4), st.binary(max_size=256))
def test_the_builder_counts_flags_always_and_clears_nothing(
    event: dict[str, int], insn: bytes, debug: list[int], stale: bytes
) -> None:
    """ndata = 1 + (2 with bytes) + 5 + debug; what lies behind is what was there before."""
    page = encode_page.emulation_failure(encode_page.ExitInfo(**event), insn=insn, debug=tuple(debug), stale=stale)
    run = decode_page(page)
    ndata = 1 + (2 if insn else 0) + 5 + len(debug)
    assert (run.exit_reason, run.payload["suberror"], run.payload["ndata"]) == (17, 1, ndata)
    behind = run.raw[8 + 8 * ndata :]
    assert behind == stale.ljust(256, b"\0")[8 + 8 * ndata :]
    if insn:
        assert run.raw[16] == len(insn)
        assert run.raw[17 : 17 + 15] == insn.ljust(15, b"\x90")


def test_a_fifth_debug_word_is_dropped_with_the_kernels_warning() -> None:
    """The kernel WARNs once and keeps four; strict refuses."""
    with pytest.warns(encode_page.KernelWarning, match="keeps 4"):
        words = encode_page.emulation_failure_words(encode_page.ExitInfo(60), debug=(1, 2, 3, 4, 5))
    assert words == (0, 60, 0, 0, 0, 0, 1, 2, 3, 4)
    with pytest.raises(LayoutError, match="at most 4"):
        encode_page.emulation_failure_words(encode_page.ExitInfo(60), debug=(1, 2, 3, 4, 5), strict=True)


def test_words_too_wide_are_refused() -> None:
    """get_exit_info's reason, intr_info and error_code are u32 in the kernel."""
    with pytest.raises(LayoutError, match="32 bits"):
        encode_page.emulation_failure_words(encode_page.ExitInfo(2**32))
    with pytest.raises(LayoutError, match="15 bytes"):
        encode_page.emulation_failure_words(encode_page.ExitInfo(48), insn=bytes(16))
    with pytest.raises(LayoutError, match="needs a field"):
        encode_emulation(EmulationFailure("final", 1, b"\xd9"))


@pytest.mark.parametrize(
    ("suberror", "kernel", "words"),
    [
        (2, "5.8.0", 0),
        (2, "5.9.0-1-amd64", 4),
        (3, "5.4.0-200-generic", 0),
        (3, "5.15.0-91-generic", 4),
        (3, "6.13.12", 4),
        (3, "6.14.0-rc1", 5),
        (3, "7.3.4+deb13-cloud-amd64", 5),
        (4, "5.4.0", 0),
        (4, "6.1", 2),
        (1, "6.1", 0),
        (9, "6.1", 0),
        (3, "custom", 0),
    ],
)
def test_how_many_words_a_kernel_writes(suberror: int, kernel: str, words: int) -> None:
    """The tables of the kernel's producers: what a release writes at least, and nothing where that is not known."""
    assert least_words(suberror, kernel) == words
