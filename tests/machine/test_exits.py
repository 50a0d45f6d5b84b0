"""Exits as values, on made pages: every KVM_EXIT_* has a type that loses nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.abi.cstruct import Value
from kvmwhy.abi.kvm_run import EXITS, PAGE_SIZE, decode_page, encode_page
from kvmwhy.machine import CompletionError, Exit, InternalError, Io, Mmio, Other, TimedOut, exits
from kvmwhy.machine.completion import answer, refusal
from kvmwhy.machine.exits import decode_exit

CLASSES: dict[int, type[Exit]] = {
    kind.number: kind
    for kind in vars(exits).values()
    if isinstance(kind, type) and issubclass(kind, Exit) and kind.number >= 0 and kind is not TimedOut
}
FOREIGN = {"DCR", "OSI", "PAPR_HCALL", "EPR", "WATCHDOG", "LOONGARCH_IOCSR"}  # and S390_…, ARM_…, RISCV_…


def test_every_x86_exit_has_a_class() -> None:
    """Only exits of other architectures are left to Other."""
    without = {e.name for n, e in EXITS.items() if n not in CLASSES}
    assert {name for name in without if not name.startswith(("S390_", "ARM_", "RISCV_"))} == FOREIGN


def test_fields_are_the_payloads() -> None:
    """A class has the payload's fields, in their order; padding is left out, a port's data is added."""
    for number, kind in CLASSES.items():
        names = [f.name for f in EXITS[number].fields if not f.name.startswith("pad")]
        assert [n for n in kind.__struct_fields__ if (kind, n) != (Io, "data")] == names, kind


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    exit_ = draw(st.sampled_from(list(EXITS.values())))
    payload: dict[str, Value] = {}
    for f in exit_.fields:
        one = st.integers(0, 2 ** (8 * f.size) - 1)
        if f.length == 1:
            payload[f.name] = draw(one)
        elif f.size == 1:
            payload[f.name] = draw(st.binary(min_size=f.length, max_size=f.length))
        else:
            payload[f.name] = draw(st.lists(one, min_size=f.length, max_size=f.length).map(tuple))
    return encode_page(exit_.number, payload)


@given(pages())
def test_a_typed_exit_has_the_values_of_the_page(page: bytes) -> None:
    """For any payload of any exit, the typed value says what the generic decoder says."""
    run, exit_ = decode_page(page), decode_exit(page)
    assert (exit_.exit_reason, exit_.name) == (run.exit_reason, run.name)
    if isinstance(exit_, Other):
        assert (exit_.payload, exit_.raw) == (run.payload, run.raw)
        return
    values = msgspec.structs.asdict(exit_)
    if isinstance(exit_, Mmio):
        size = min(exit_.len, 8)
        wanted = bytes(run.payload["data"])[:size] if exit_.is_write else b""
        assert exit_.data == wanted
        values.pop("data")
    if isinstance(exit_, Io):
        values.pop("data")
    if isinstance(exit_, Mmio):
        assert values.pop("is_write") == (run.payload["is_write"] != 0)
    assert values == {name: run.payload[name] for name in values}


@given(st.binary(max_size=288).map(lambda head: head.ljust(PAGE_SIZE, b"\0")))
def test_any_page_is_an_exit(page: bytes) -> None:
    """Random pages decode; an unknown number keeps the whole payload."""
    exit_ = decode_exit(page)
    assert exit_.exit_reason == int.from_bytes(page[8:12], "little")
    if exit_.exit_reason not in EXITS:
        assert isinstance(exit_, Other)
        assert exit_.raw == page[32:288]


def test_words_are_those_that_count() -> None:
    """ndata limits the words, and a count that KVM cannot have written is cut to the 16 that there are."""
    page = encode_page(17, {"suberror": 4, "ndata": 2, "data": (0x4F, 1, 99)})
    exit_ = decode_exit(page)
    assert isinstance(exit_, InternalError)
    assert (exit_.words, exit_.data[2], exit_.emulation) == ((0x4F, 1), 99, None)
    mad = decode_exit(encode_page(17, {"suberror": 1, "ndata": 1 << 31}))
    assert isinstance(mad, InternalError)
    assert len(mad.words) == 16
    assert mad.emulation is not None
    assert mad.emulation.remarks


@pytest.mark.parametrize(
    ("reason", "payload", "data", "offset"),
    [
        (6, {"len": 4, "is_write": 0}, bytes(4), 40),
        (2, {"direction": 0, "size": 2, "count": 3, "data_offset": 4096}, bytes(6), 4096),
        (29, {}, bytes(8), 48),
        (3, {}, bytes(8), 88),
        (34, {}, bytes(8), 56),
        (40, {}, bytes(8), 48),
    ],
)
def test_answers_go_where_the_kernel_looks(reason: int, payload: dict[str, Value], data: bytes, offset: int) -> None:
    """Each exit that asks for something takes exactly its size, at its offset."""
    page = encode_page(reason, payload)
    assert answer(page, data) == offset
    with pytest.raises(CompletionError, match=rf"asks for {len(data)} bytes, here are {len(data) + 1}"):
        answer(page, data + b"\0")


def test_what_asks_for_nothing_takes_nothing() -> None:
    """Writes, halts and errors take no answer; only MSR accesses can be refused."""
    for page in (encode_page(5), encode_page(6, {"is_write": 1, "len": 4}), encode_page(2, {"direction": 1})):
        with pytest.raises(CompletionError, match="asks for nothing"):
            answer(page, b"")
        with pytest.raises(CompletionError, match="cannot be refused"):
            refusal(page)
    assert refusal(encode_page(29)) == refusal(encode_page(30)) == 32
