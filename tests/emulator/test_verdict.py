"""Verdicts on instructions, expected from the emulator's source and its dated changes, not from the table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.arch.x86.mode import LONG64, PROT16, PROT32, REAL16, VM86, Mode
from kvmwhy.emulator.verdict import Verdict, verdict

MODES: dict[str, Mode] = {"real": REAL16, "vm86": VM86, "16": PROT16, "32": PROT32, "64": LONG64}
DEBIAN = "6.1.0-56-cloud-amd64"


def ask(code: str, mode: str = "64", kernel: str | None = None) -> Verdict:
    return verdict(bytes.fromhex(code), mode=MODES[mode], kernel=kernel)


@pytest.mark.parametrize(
    "code",
    [
        "d900",  # fld dword ptr [rax]: the kernel's own selftest uses it because it has no handler
        "db28",  # fld tbyte ptr
        "480fae27",  # xsave64
        "480fc76140",  # xsavec64 [rcx+0x40]
        "f30fb800",  # popcnt
        "f20f38f000",  # crc32
        "62f17f486f00",  # EVEX vmovdqu8
        "8fe97880c0",  # XOP
        "0f0fc09e",  # 3DNow!
        "660f3a0f00",  # palignr: all of map 0f3a
        "660f6e00",  # movd
        "f30f7e00",  # movq
        "0fae10",  # ldmxcsr
        "0ff0",  # fences and the like
        "660fae30",  # clwb
        "660f38f800",  # movdir64b
        "9b",  # fwait
        "0f01f8",  # swapgs
        "c5fb1000",  # vmovsd
        "c4e27d1800",  # vbroadcastss
        "c5fd6ec0",  # vmovd
    ],
)
def test_never(code: str) -> None:
    """These have had no handler in any kernel, with or without a version given."""
    for kernel in (None, "5.4", DEBIAN, "7.2"):
        found = ask(code, kernel=kernel)
        assert found.outcome == "no-handler"
        if kernel is None:
            assert (found.never, found.since) == (True, None)


@pytest.mark.parametrize(
    ("code", "mode"),
    [
        ("8b4500", "64"),  # mov
        ("8b00", "32"),
        ("a4", "real"),  # movsb
        ("f30f6f00", "64"),  # movdqu
        ("660fe700", "64"),  # movntdq
        ("0f2900", "64"),  # movaps store
        ("0fc300", "64"),  # movnti
        ("0fc708", "64"),  # cmpxchg8b
        ("0faa", "real"),  # rsm
        ("d938", "32"),  # fnstcw
        ("dbe3", "32"),  # fninit
        ("cf", "real"),  # iret
        ("c500", "32"),  # lds, not VEX
        ("8f00", "64"),  # pop m, not XOP
        ("0f1f00", "64"),  # nop m
        ("c8100000", "64"),  # enter 16, 0
        ("40", "32"),  # inc eax, not REX
    ],
)
def test_handlers_of_every_kernel_in_use(code: str, mode: str) -> None:
    """These have been carried out since 5.4 or before."""
    for kernel in ("5.4", DEBIAN):
        found = ask(code, mode, kernel)
        assert (found.outcome, found.never) == ("handler", False)


@pytest.mark.parametrize(
    ("code", "mode", "without", "with_"),
    [
        ("c9", "64", "3.1", "3.6"),  # leave
        ("660f7f07", "64", "2.6.32", "3.6"),  # movdqa
        ("f30f6f00", "64", "2.6.32", "3.1"),  # movdqu
        ("0f38f000", "64", "3.11", "3.18"),  # movbe
        ("0f2900", "64", "3.11", "3.18"),  # movaps
        ("660fe700", "64", "3.11", "3.18"),  # movntdq
        ("0fae00", "32", "4.4", "4.14"),  # fxsave
        ("0f1000", "64", "4.14", "4.19"),  # movups
        ("0faa", "real", "3.18", "4.4"),  # rsm
        ("0fc8", "64", "3.1", "3.6"),  # bswap
        ("d938", "32", "3.6", "3.11"),  # fnstcw
        ("0f0100", "32", "3.1", "3.6"),  # sgdt
        ("f6e0", "32", "2.6.32", "3.1"),  # mul
    ],
)
def test_handlers_of_old_kernels(code: str, mode: str, without: str, with_: str) -> None:
    """arch/x86/kvm/emulate.c of 2.6.32, 3.1, 3.6, 3.11, 3.18, 4.4, 4.14 and 4.19: absent in one, there in the next."""
    assert ask(code, mode, without).outcome == "no-handler"
    assert ask(code, mode, with_).outcome == "handler"
    assert ask(code, mode).since == with_


def test_a_release_between_two_that_were_read_is_in_doubt() -> None:
    """LEAVE came after 3.1 and was there in 3.6: of 3.3 nothing is known for certain."""
    assert "most likely" in ask("c9", kernel="3.3.0").sentence
    assert "most likely" not in ask("c9", kernel="3.1.0").sentence


def test_the_form_of_a_record_dates_a_nameless_kernel() -> None:
    """A record that only kernels up to 3.5 can have written: LEAVE had no handler there."""
    old = verdict(b"\xc9", mode=LONG64, newest=(3, 5))
    assert (old.outcome, old.since) == ("no-handler", "3.6")
    assert verdict(b"\xc9", mode=LONG64, newest=(5, 15)).outcome == "handler"


def test_every_form_of_0f_ae_was_clflush_once() -> None:
    """Up to 3.11 twobyte_table has one entry for 0f ae and ignores ModRM: XSAVE was carried out as a no-op."""
    assert ask("480fae27", kernel="3.10.0-1160.el7").outcome == "handler"
    assert ask("480fae27", kernel="4.4.0").outcome == "no-handler"


def test_avx_moves_came_in_6_19() -> None:
    """VMOVDQU has a handler since 6.19; before, no VEX instruction had one."""
    new = ask("c5fe6f00")
    assert (new.outcome, new.since, new.never) == ("handler", "6.19", False)
    old = ask("c5fe6f00", kernel=DEBIAN)
    assert (old.outcome, old.since, old.never) == ("no-handler", "6.19", False)
    assert "6.1 " in old.sentence
    assert ask("c5fe6f00", kernel="6.19.0").outcome == "handler"
    assert ask("c4e17e6f00", kernel="6.19.0").outcome == "handler"  # the same with a three-byte prefix
    assert ask("c5fe6fc1", "32").outcome == "handler"


def test_broken_vex() -> None:
    """VEX.vvvv other than 1111, or 66, F2, F3, REX before VEX, makes KVM fail to decode a known move."""
    for code in ("c5f66f00", "66c5fe6f00", "48c5fe6f00", "f3c5fe6f00"):
        assert ask(code).outcome == "no-handler"
    assert ask("64c5fe6f00").outcome == "handler"  # a segment prefix is allowed


def test_vmovntps_has_no_register_form() -> None:
    """2B is a store to memory only."""
    assert ask("c5f82b00").outcome == "handler"
    assert ask("c5f82bc0").outcome == "no-handler"


def test_movntdqa_was_the_wrong_way_round() -> None:
    """MOVNTDQA came in 6.19 with source and destination swapped; 7.1 put it right."""
    for code in ("660f382a00", "c4e2792a00"):
        assert ask(code, kernel="6.18").outcome == "no-handler"
        assert ask(code, kernel="6.19.9").caveat
        assert ask(code, kernel="7.0").caveat
        assert ask(code).caveat
        assert ask(code, kernel="7.1.2").caveat is None


def test_movbe() -> None:
    """MOVBE is old, its 16-bit form came in 6.9."""
    assert ask("0f38f000", kernel="6.8").since == "3.18"
    assert ask("660f38f000", kernel="6.8").outcome == "no-handler"
    assert ask("660f38f000", kernel="6.9").since == "6.9"


@pytest.mark.parametrize(
    ("code", "mode"),
    [
        ("f30f1efb", "32"),  # endbr32
        ("f30f1efa", "64"),  # endbr64
        ("cf", "32"),  # iret
        ("cf", "vm86"),
        ("48cf", "64"),
        ("cc", "64"),
        ("cd80", "32"),
        ("480fc708", "64"),  # cmpxchg16b
        ("0fae00", "64"),  # fxsave
        ("0fae08", "64"),  # fxrstor
        ("0f34", "64"),  # sysenter
        ("c8100001", "32"),  # enter 16, 1
        ("0f01c8", "32"),  # monitor
        ("0f01f9", "64"),  # rdtscp
        ("f1", "32"),  # int1
    ],
)
def test_gives_up(code: str, mode: str) -> None:
    """These decode, and then the handler gives up or there is none behind the entry."""
    found = ask(code, mode)
    assert (found.outcome, found.never) == ("gives-up", True)
    assert found.limit


def test_reserved_nops_did_not_even_decode_before_5_8() -> None:
    """ENDBR32 on 5.4 fails one step earlier."""
    assert ask("f30f1efb", "32", "5.4").outcome == "no-handler"


@pytest.mark.parametrize(
    ("code", "mode"),
    [
        ("f08b00", "64"),  # LOCK MOV
        ("f001c0", "64"),  # LOCK ADD with a register destination
        ("0f0010", "real"),  # lldt in real mode
        ("06", "64"),  # push es
        ("d510", "64"),  # REX2
        ("c7f800000000", "64"),  # xbegin
        ("ff38", "64"),  # FF /7
        ("82c000", "64"),
        ("ce", "64"),  # into
    ],
)
def test_injects_ud(code: str, mode: str) -> None:
    """Here KVM gives the guest #UD by itself, which is no emulation failure."""
    assert ask(code, mode).outcome == "injects-ud"


@pytest.mark.parametrize("code", ["", "66", "48", "0f", "0f38", "0fae", "c5", "c5fe", "c4e27e", "66" * 15])
def test_bytes_that_end_too_early(code: str) -> None:
    """Without the opcode there is no verdict on it; the fetch is what failed."""
    assert ask(code).outcome == "fetch"


def test_conflicting_prefixes() -> None:
    """66 with F3 on a prefix-split opcode fails to decode; elsewhere it is ignored."""
    assert ask("66f30f6f00").outcome == "no-handler"
    assert ask("66f38b00").outcome == "handler"


def test_rex_before_a_legacy_prefix_does_not_count() -> None:
    """48 66 0F C7 /1 has no REX.W: the legacy prefix cancels it."""
    assert ask("48660fc708").outcome == "handler"


def test_lea_with_a_register() -> None:
    """LEA with a register operand is refused since 6.0."""
    assert ask("8dc0", kernel="5.15").outcome == "handler"
    assert ask("8dc0", kernel="6.0").outcome == "no-handler"
    assert ask("8d00").outcome == "handler"


def test_clflushopt() -> None:
    """CLFLUSHOPT came in 5.10, with backports that a 5.4 kernel may have."""
    old = ask("660fae38", kernel="5.4.0")
    assert (old.outcome, old.since) == ("no-handler", "5.10")
    assert "5.4.79" in (old.limit or "")
    assert ask("660fae38", kernel="5.10").outcome == "handler"


def test_cet_is_a_possibility_from_6_18() -> None:
    """CALL, RET and JMP through memory may be refused under CET from 6.18 on, not before, not in real mode."""
    for code in ("e800000000", "c3", "ff20", "ff28"):
        assert "CET" in (ask(code).limit or "")
        assert "CET" in (ask(code, kernel="6.18").limit or "")
        assert "CET" not in (ask(code, kernel="6.17").limit or "")
        assert "CET" not in (ask(code, "real").limit or "")


def test_silently_different() -> None:
    """TZCNT and LZCNT run as BSF and BSR, WBNOINVD as WBINVD, LOCKed accesses to MMIO are not atomic."""
    assert "BSF" in (ask("f30fbc00").caveat or "")
    assert "BSR" in (ask("f30fbd00").caveat or "")
    assert ask("0fbc00").caveat is None
    assert "WBINVD" in (ask("f30f09").caveat or "")
    assert "atomic" in (ask("f00fb108").caveat or "")
    assert "atomic" in (ask("8700").caveat or "")
    assert ask("87c0").caveat is None


def test_slot_names() -> None:
    """A slot is named the way the opcode maps of the manuals name it."""
    assert ask("0fae27").slot == "0f ae /4, memory, no prefix"
    assert ask("d900").slot == "d9 /0, memory"
    assert ask("f30f6f00").slot == "0f 6f, memory, prefix f3"
    assert ask("c5fe6f00").slot == "VEX.0f.f3 6f, memory"
    assert ask("62f17f486f00").slot == "62 (EVEX)"
    assert ask("8b00").slot == "8b"


@given(
    st.binary(max_size=17),
    st.sampled_from(sorted(MODES)),
    st.one_of(st.none(), st.sampled_from(["5.4", DEBIAN, "6.19", "7.3"]), st.text(max_size=12)),
)
def test_any_bytes(code: bytes, mode: str, kernel: str | None) -> None:
    """No bytes raise, and every verdict has a sentence that ends."""
    found = verdict(code, mode=MODES[mode], kernel=kernel)
    assert found.sentence.endswith(".")
    assert found.never <= (found.outcome != "handler")
    if found.outcome == "gives-up":
        assert found.limit


PREFIX = st.sampled_from(["", "66", "f2", "f3", "48", "f0", "67"])


@given(PREFIX, st.sampled_from(["", "0f", "0f38", "c5f8", "c4e279", "c5fe"]), st.binary(min_size=1, max_size=6))
def test_likely_code(prefix: str, escape: str, tail: bytes) -> None:
    """The same over the encodings that matter, where random bytes seldom arrive."""
    code = bytes.fromhex(prefix + escape) + tail
    for mode in MODES.values():
        for kernel in (None, "5.4", "6.19"):
            assert verdict(code, mode=mode, kernel=kernel).sentence
