"""illumos keeps the instructions that KVM could not emulate in a ring buffer, not in a log."""

from __future__ import annotations

from kvmwhy.readers import read


def test_the_ring_buffer_of_illumos() -> None:
    """RIP and eight bytes of each emulation that failed, thread by thread."""
    text = (
        "ffffff2e1f62aca0 11807236249037238   8 ffffff2ca17a5b60 efail-0 fffffffff81e6b59\n"
        "ffffff2e1f62acc0 11807236249037355   8 ffffff2ca17a5b60 efail-1 fffff80001516ed3\n"
        "ffffff2e1f62acc0 11807236249037400   9 ffffff2ca17a0000 put                    8\n"
        "ffffff2e1f62ace0 11807236249037454   8 ffffff2ca17a5b60 efail-2 e70f660804e70f66\n"
        "ffffff2e1f62ace0 11807236249037454   8 ffffff2ca17a5b60 efail-2 e70f660804e70f66\n"
    )
    (failure,) = read(text.encode()).failures
    assert failure.emulation
    assert (failure.emulation.rip, failure.emulation.insn.hex()) == (0xFFFFF80001516ED3, "660fe70408660fe7")
    assert (failure.suberror, failure.source.line, failure.host.vendor) == (1, 2, "vmx")
