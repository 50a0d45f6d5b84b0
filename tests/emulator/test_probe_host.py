"""probe.host: this host's own KVM, asked about a few forms whose outcome no kernel has ever changed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvmwhy.machine.errors import MachineError
from kvmwhy.probe.encodings import Mode, form_of
from kvmwhy.probe.host import Prober
from needs import missing


@pytest.fixture(scope="module")
def prober() -> Iterator[Prober]:
    try:
        made = Prober()
    except MachineError as error:
        missing("live", f"no KVM to ask: {error}")
    with made:
        yield made


@pytest.mark.parametrize(
    ("mode", "text", "kind", "accesses"),
    [
        ("long64", "8b 03", "emulated", "r4"),
        ("long64", "48 89 13", "emulated", "w8"),
        ("long64", "0f 10 03", "emulated", "r8r8"),
        ("long64", "d9 03", "fails", ""),
        ("long64", "f3 0f b8 03", "fails", ""),
        ("long64", "aa", "emulated", "w1"),
        ("long64", "52", "emulated", "w8"),
        ("prot32", "01 13", "emulated", "r4w4"),
        ("prot32", "dd 03", "fails", ""),
        ("real16", "8b 07", "emulated", "r2"),
        ("real16", "d9 07", "fails", ""),
    ],
)
def test_truths(prober: Prober, mode: Mode, text: str, kind: str, accesses: str) -> None:
    """A plain move, a wide one, a push, a store; and x87 and POPCNT, which no kernel carries out."""
    if not prober.runs(mode):
        pytest.skip(f"this KVM does not run {mode} with paging")
    verdict, technique = prober.ask(form_of(bytes.fromhex(text), mode))
    assert technique == "plain"
    assert verdict is not None
    assert (verdict.kind, verdict.accesses) == (kind, accesses)


def test_what_the_cpu_lacks(prober: Prober) -> None:
    """An instruction that no CPU has is asked by a stale translation, or not at all; and it fails."""
    verdict, _ = prober.ask(form_of(bytes.fromhex("0f 24 03"), "long64"))
    assert verdict is not None or not prober.stale
    assert verdict is None or verdict.kind == "fails"


def test_used_again(prober: Prober) -> None:
    """Half-done accesses of one probe do not leak into the next: the same answers, in any order."""
    forms = [form_of(bytes.fromhex(text), "long64") for text in ("0f 01 13", "8b 03", "d9 03", "48 0f c7 0b")]
    first = [prober.ask(form)[0] for form in forms]
    second = [prober.ask(form)[0] for form in reversed(forms)]
    assert first == second[::-1]
    assert first[1] is not None
    assert first[1].kind == "emulated"
