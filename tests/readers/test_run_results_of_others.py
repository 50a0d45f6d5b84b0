"""What JSON results of KVM_RUN do not show is not said, and what is none of them is not taken for one.

The layouts are those of include/uapi/linux/kvm.h; numbers of errors those of asm-generic/errno.h.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import kvmwhy
from kvmwhy.abi import exit_words
from kvmwhy.readers import read


def answer(**result: Any) -> str:
    (diagnosis,) = kvmwhy.explain(json.dumps(result).encode())
    return diagnosis.answer


@pytest.mark.parametrize(
    "line",
    [
        {"process": "firefox", "signal": 11, "si_code": 1},
        {"errno": 2, "exit_reason": 1, "cmd": "make"},
        {"level": "error", "errno": 22, "msg": "rename"},
    ],
)
def test_a_programs_own_error_is_none(line: dict[str, Any]) -> None:
    """A crash of a browser and a failed rename have an errno and a signal, too."""
    assert read(json.dumps(line).encode()).failures == ()


def test_what_no_word_shows_is_not_said() -> None:
    """KVM_EXIT_SYSTEM_EVENT and _ARM_SEA without words, and _MEMORY_FAULT with its flags alone: no type, no address."""
    assert "system event 0" not in answer(exit_reason=24, errno=0, pc="0x80001000")
    assert "0x0" not in answer(exit_reason=41, errno=0, words=["1", "0x92000010"], pc="0x1000")
    assert "0x0" not in answer(exit_reason=39, errno=0, words=["8"], pc="0x1000")


def test_an_exit_41_that_lost_its_address() -> None:
    """KVM_EXIT_ARM_SEA, as a stored record may have it: flags say that there is an address, and it is not there."""
    said = exit_words.words(41, {"flags": 1, "esr": 0x9200_0010}, "arm64")
    assert said
    assert "physical address" not in said


@pytest.mark.parametrize(("number", "name"), [(12, "ENOMEM"), (16, "EBUSY"), (70, "ECOMM")])
def test_an_error_that_is_shown_is_named(number: int, name: str) -> None:
    """riscv64's log and the result both show it; it is not the fetch's EOPNOTSUPP."""
    log = (
        f"kvm [812]: VCPU exit error -{number}\nkvm [812]: SEPC=0x80200000 SSTATUS=0x200004120 HSTATUS=0x2002001c0\n"
        "kvm [812]: SCAUSE=0x14 STVAL=0x10000000 HTVAL=0x4000000 HTINST=0x0\n"
    )
    (diagnosis,) = kvmwhy.explain(log.encode())
    assert diagnosis.mechanism is not None
    assert diagnosis.mechanism.id == "run-errno"
    assert name in diagnosis.answer


def test_a_page_has_linux_numbers() -> None:
    """95 is EOPNOTSUPP in KVM's sources, whatever another system, or Python, calls it."""
    from kvmwhy.testing import delivery_failure_page

    assert kvmwhy.decode_page(delivery_failure_page(), error=95).errno == "EOPNOTSUPP"
    assert kvmwhy.decode_page(delivery_failure_page(), error=133).errno == "EHWPOISON"
