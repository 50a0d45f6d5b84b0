"""Any bytes on the model end: with an exit, a failure or the time limit, and never with an exception."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("unicorn")

from kvmwhy.abi.kvm_run import decode_page
from kvmwhy.machine import FailEntry, Guest, Hlt, InternalError, Io, Mmio, Mode, Shutdown, TimedOut
from kvmwhy.machine.model import Model, Vendor

HOLE = 0xD0000000
EXITS = 12
PATIENCE = 0.03
PREFIXES = [b"", b"\xc5", b"\xc4", b"\x62", b"\x0f", b"\x66\x0f", b"\xf3\x0f", b"\xd9", b"\xdf", b"\x8f"]
KERNELS = ["5.4", "5.10", "5.14", "5.15", "6.1", "6.12", "6.14", "6.18", "6.19", "7.0", "7.3"]
VENDORS: list[Vendor] = ["vmx", "svm", "pvm"]
MODES: list[Mode] = ["real16", "prot32", "long64"]

registers = st.dictionaries(
    st.sampled_from(["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"]),
    st.one_of(
        st.integers(HOLE, HOLE + 0x2000),
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 0xFFFFF),
        st.just(0),
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    mode=st.sampled_from(MODES),
    user=st.booleans(),
    prefix=st.sampled_from(PREFIXES),
    code=st.binary(max_size=40),
    regs=registers,
    idt=st.sampled_from([None, None, (HOLE, 0xFFF)]),
    xcr0=st.sampled_from([0, 7]),
    vendor=st.sampled_from(VENDORS),
    kernel=st.sampled_from(KERNELS),
    answers=st.binary(min_size=1, max_size=8),
)
def test_any_code_ends(  # noqa: PLR0917 -- one argument per thing that varies
    mode: Mode,
    user: bool,
    prefix: bytes,
    code: bytes,
    regs: dict[str, int],
    idt: tuple[int, int] | None,
    xcr0: int,
    vendor: Vendor,
    kernel: str,
    answers: bytes,
) -> None:
    """In every mode, privilege level, vendor and release; the page always holds the exit that is told."""
    cpl = 3 if user and mode != "real16" else 0
    guest = Guest(mode, prefix + code, cpl=cpl, regs=regs, idt=idt, xcr0=xcr0)
    with Model(kernel, vendor) as machine:
        vcpu = guest.load(machine)
        for _ in range(EXITS):
            found = vcpu.run(timeout=PATIENCE)
            assert isinstance(found, FailEntry | Hlt | InternalError | Io | Mmio | Shutdown | TimedOut)
            if isinstance(found, TimedOut):
                break
            assert decode_page(vcpu.page()).exit_reason == found.exit_reason
            if isinstance(found, Mmio | Io) and not found.is_write:
                size = found.len if isinstance(found, Mmio) else found.size * found.count
                vcpu.complete((answers * size)[:size])
            elif not isinstance(found, Mmio | Io):
                break
