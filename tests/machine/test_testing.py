"""kvmwhy.testing: its pages are what the kernel leaves, and its examples are true."""

import doctest

import pytest

from kvmwhy import machine, testing
from kvmwhy.abi.encode_page import ExitInfo
from kvmwhy.abi.kvm_run import decode_page
from kvmwhy.machine import FailEntry, InternalError, MemoryFault, Other, Shutdown, decode_exit
from kvmwhy.machine.x86 import guest


@pytest.mark.parametrize("module", [testing, machine, guest])
def test_the_examples_are_true(module: object) -> None:
    """Docstring examples give what they show (the one that needs /dev/kvm runs with the live tests)."""
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]  # a module


@pytest.mark.parametrize("name", list(testing.FAILURES))
def test_every_failure_is_a_whole_page_of_an_exit(name: str) -> None:
    """4096 bytes that decode to a typed exit, and that no two names share."""
    page = testing.FAILURES[name]
    assert len(page) == 4096
    exit_ = decode_exit(page)
    assert isinstance(exit_, Other) == (name == "unheard-of")
    assert [other for other, bytes_ in testing.FAILURES.items() if bytes_ == page] == [name]
    assert decode_page(page).exit_reason == exit_.exit_reason


@pytest.mark.parametrize(("since", "ndata"), [("5.10", 0), ("5.14", 3), ("5.16", 8)])
def test_each_era_has_its_layout(since: testing.Era, ndata: int) -> None:
    """The count of words is that of the kernel named, and what was there before stays behind them."""
    page = testing.emulation_failure_page(b"\xd9\x07", since=since, stale=b"\xee" * 256)
    exit_ = decode_exit(page)
    assert isinstance(exit_, InternalError)
    assert (exit_.ndata, exit_.data[15]) == (ndata, 0xEEEE_EEEE_EEEE_EEEE)


def test_words_go_where_they_belong() -> None:
    """Given words of a VM-exit come back as such, for either vendor's default, too."""
    info = ExitInfo(0x30, 0x584, 0, 0, 0)
    exit_ = decode_exit(testing.fetch_failure_page(exit_info=info))
    assert isinstance(exit_, InternalError)
    assert exit_.words == (0, *info)
    svm = decode_exit(testing.emulation_failure_page(vendor="svm", address=0xFEDCB000))
    assert isinstance(svm, InternalError)
    assert svm.words[3:6] == (0x400, 0x1_0000_0004, 0xFEDCB000)


def test_the_other_kinds() -> None:
    """Entry failure, triple fault and memory fault are their own exits."""
    assert decode_exit(testing.entry_failure_page(cpu=3)) == FailEntry(0x80000021, 3)
    assert decode_exit(testing.shutdown_page()) == Shutdown()
    assert decode_exit(testing.memory_fault_page(0x1000, private=True)) == MemoryFault(8, 0x1000, 4096)
