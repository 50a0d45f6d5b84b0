"""Every word becomes one sentence, and no value is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.abi.bitfields import hx
from kvmwhy.abi.x86.describe import (
    ExitWords,
    Explained,
    access_of_delivery,
    access_of_exit,
    explain_delivery,
    explain_exit,
    explain_simultaneous,
    explain_unexpected,
)

# Words as they occur, beside arbitrary ones.
u64 = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(0, 0x420),
    st.sampled_from((0, 0x80000021, 0xFFFFFFFF, 0xDEAD, 0x1000, 0x80000B0E, 0xE000060400000000)),
    st.integers(0, 2**17 - 1).map(lambda low: low | 0x80000000),
)
vendors = st.sampled_from((None, "vmx", "svm", "tdx", "pvm", "something else"))


def check(explained: Explained, words: tuple[int, ...]) -> None:
    assert len(explained.sentences) == len(words)
    for sentence, word in zip(explained.sentences, words, strict=True):
        head = sentence.split(": ")[0]
        assert head.endswith(f" {hx(word)}"), sentence
        assert sentence.isprintable(), repr(sentence)
        assert not sentence.endswith((": ", "; ", ":"))


@given(vendors, st.builds(ExitWords, u64, u64, u64, u64, u64))
def test_exit_words_are_never_lost(vendor: str | None, words: ExitWords) -> None:
    """Any five words under any vendor: one printable sentence each, headed by its value in hex."""
    check(explain_exit(vendor, words), words)
    assert access_of_exit(vendor, words).why.isprintable()


@given(vendors, st.lists(u64, max_size=7).map(tuple))
def test_other_words_are_never_lost(vendor: str | None, data: tuple[int, ...]) -> None:
    """Any number of words of suberrors 2, 3 and 4, in any version or in none."""
    check(explain_simultaneous(data), data)
    check(explain_delivery(vendor, data), data)
    check(explain_unexpected(vendor, data), data)
    assert access_of_delivery(vendor, data).why.isprintable()


def test_jump_to_the_vga_hole() -> None:
    """Public report: 0x30, 0x584 is a fetch from an address nothing is mapped at."""
    explained = explain_exit("vmx", ExitWords(0x30, 0x584, 0, 0, 0))
    assert explained.name == "EPT_VIOLATION"
    assert explained.sentences[1].startswith("exit qualification 0x584: instruction fetch; nothing is mapped")
    assert "the access itself, not a page walk" in explained.sentences[1]
    assert explained.sentences[2] == "IDT-vectoring information 0: no event was being delivered"


def test_amd_write_to_mmio() -> None:
    """Public report: NPF, a write to 0x4a0003140 that KVM knew as MMIO."""
    explained = explain_exit("svm", ExitWords(0x400, 0x10000000F, 0x4A0003140, 0, 0))
    assert explained.name == "NPF"
    assert explained.sentences[1].startswith("EXITINFO1 0x10000000f: write; ")
    assert explained.sentences[2] == "EXITINFO2 0x4a0003140: the guest physical address that was accessed"
    assert explained.sentences[3] == "EXITINTINFO 0: no event was being delivered"


def test_the_same_slot_is_another_field_elsewhere() -> None:
    """intr_info is what caused the exit on Intel, and what was being delivered on AMD; on TDX info2 is no event."""
    words = ExitWords(0x30, 0x181, 0x80000306, 0x80000B0E, 2)
    assert "was being delivered" in explain_exit("vmx", words).sentences[2]
    assert "caused the exit" in explain_exit("vmx", words).sentences[3]
    assert "was being delivered" in explain_exit("svm", words).sentences[3]
    assert "delivered" not in explain_exit("tdx", words).sentences[2]


def test_shadow_paging() -> None:
    """Lab, ept=0: reason 0, CR2, #PF with error code 0x10 (a fetch)."""
    explained = explain_exit("vmx", ExitWords(0, 0xD0000000, 0, 0x80000B0E, 0x10))
    assert explained.name == "EXCEPTION_NMI"
    assert "CR2" in explained.sentences[1]
    assert "instruction fetch" in explained.sentences[4]


def test_no_entry_yet() -> None:
    """Lab: five zero words are not EXCEPTION_NMI."""
    for vendor in ("vmx", "svm", None):
        explained = explain_exit(vendor, ExitWords(0, 0, 0, 0, 0))
        assert explained.name is None
        assert "all words are zero" in explained.sentences[0]


def test_kvms_own_invalid_state() -> None:
    """Lab: 0x80000021 in suberror 1 is KVM's note that no entry was attempted."""
    explained = explain_exit("vmx", ExitWords(0x80000021, 0, 0, 0, 0))
    assert explained.name == "INVALID_STATE"
    assert "KVM writes this itself" in explained.sentences[0]


def test_pvm_stays_raw() -> None:
    """Measured: kvm_pvm reports 0x1000 and zeros; its meaning is not published."""
    explained = explain_exit("pvm", ExitWords(0x1000, 0, 0, 0, 0))
    assert explained.name is None
    assert "not published" in explained.sentences[0]


def test_without_a_vendor_both_readings_stand() -> None:
    """0x46 is ENCLV on Intel and #UD on AMD."""
    explained = explain_exit(None, ExitWords(0x46, 0, 0x1234, 0, 0))
    assert explained.name is None
    assert "on Intel" in explained.sentences[0]
    assert "ENCLV" in explained.sentences[0]
    assert "UD_EXCP" in explained.sentences[0]


def test_double_fault_while_delivering() -> None:
    """Public report, two words: vector 8 as an interrupt, then a #DF; and the lab's four words."""
    first, second = explain_simultaneous((0x80000008, 0x80000B08)).sentences
    assert "external interrupt, vector 8 (0x8) was being delivered" in first
    assert "#DF" in second
    four = explain_simultaneous((0x80000306, 0x80000B0E, 9, 3)).sentences
    assert "a reserved bit is set in the page tables" in four[2]
    assert four[3] == "CPU 0x3: the last VM entry was on logical CPU 3 of the host"


def test_the_fourth_word_is_an_address_or_a_cpu() -> None:
    """Up to 5.8 four words with reason 0x31 end in the GPA; from 5.9 on four words end in the CPU."""
    assert (
        explain_delivery("vmx", (0x80000B0E, 0x31, 0x981, 0x2B570))
        .sentences[3]
        .startswith("guest physical address 0x2b570: ")
    )
    assert explain_delivery("vmx", (0x8000002F, 0x20, 0x582, 6)).sentences[3].startswith("CPU 0x6: ")


def test_a_stale_qualification_is_called_so() -> None:
    """WRMSR has no qualification; 0x582 was left there by an EPT violation (fixed in 6.9)."""
    text = explain_delivery("vmx", (0x8000002F, 0x20, 0x582, 6)).sentences[2]
    assert "left over from an earlier EPT violation" in text
    fresh = explain_delivery("vmx", (0x80000306, 0x30, 0x181, 0xD0000060, 0)).sentences[2]
    assert "left over" not in fresh


def test_delivery_with_shadow_paging() -> None:
    """Lab, ept=0: the address word is a linear address, and the qualification CR2."""
    sentences = explain_delivery("vmx", (0x80000306, 0, 0xD0000060, 0xD0000060, 0)).sentences
    assert "CR2" in sentences[2]
    assert sentences[3].startswith("guest linear address 0xd0000060: ")


def test_delivery_on_amd() -> None:
    """6.14 on: EXITINFO2, exit code, EXITINFO1, GPA, CPU; no word holds the event."""
    explained = explain_delivery("svm", (0xD0000060, 0x400, 0x100000004, 0xD0000060, 3))
    assert explained.name == "NPF"
    heads = [sentence.split(" 0x")[0] for sentence in explained.sentences]
    assert heads == ["EXITINFO2", "exit code", "EXITINFO1", "guest physical address", "CPU"]


def test_an_unknown_address() -> None:
    """All ones is INVALID_GPA."""
    text = explain_delivery("vmx", (0x8000002F, 0x20, 0, 2**64 - 1, 1)).sentences[3]
    assert text == "guest physical address 0xffffffffffffffff: not known (all ones)"


def test_a_dead_td() -> None:
    """Public report: suberror 4 with a TDX status and CPU 49."""
    explained = explain_unexpected("tdx", (0xE000060400000000, 0x31))
    assert explained.name == "TDX_TD_FATAL"
    assert "CPU 49" in explained.sentences[1]


def test_rdtscp_without_a_handler() -> None:
    """Public report: reason 0x33."""
    assert explain_unexpected("vmx", (0x33, 2)).name == "RDTSCP"
