"""Every message that KVM's modules can print, of eight kernels, is an event, a line of a dump, or left out for a
reason.

``printk_formats.tsv`` has module, kernels and format string, taken from the modules of Debian's kernels (``strings``
with printk's
level marks, and what is handed to ``dev_*`` and ``WARN``); each is printed here with values of our own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from asking import asked
from kvmwhy.ingest.normalize import Text
from kvmwhy.readers import kernel_log
from kvmwhy.readers.kernel_log.host_events import events_of
from kvmwhy.readers.kernel_log.host_messages import PARTS, known
from kvmwhy.readers.kernel_log.host_messages.ignored import IGNORED, reason
from kvmwhy.readers.kernel_log.host_messages.printf import form

TABLE = Path(__file__).parent / "printk_formats.tsv"
KERNELS = ("5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "7.2", "7.3")
_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh|h|ll|l|L|z)?(?P<as>[xXduisc%]|p[A-Za-z]*)"
)
# The generic labels of dump_vmcs and dump_vmcb: what they print is read by the forms of vmcs.py and vmcb.py.
_DUMPS = (
    "%-15s", "%-20s", "%-5s", "%s sel=0x", "%s   ", "%2d: msr=", "MSR %s:", "VMCS %p", "VMCB %p", "%s vCPU%u VMCB",
    "VMCB ", "*** ",
)  # fmt: skip

# Of any device, of a start, of words that ordinary logs are full of, or never without another message.
_SEEN_BESIDE = frozenset(
    {
        "access-tracking-bits", "access-without-syndrome", "apic-access-odd", "avic-page",
        "control-register-unhandled", "device-reset-failed",
        "iommu-fault", "mmu-page-mismatch", "msr-list-full", "nested-shadow-field",
        "nested-msr-list", "ppc-cpu-stuck", "ppc-memory-fault",
        # Behind "SEV-SNP: ", "SEV: " and "virt/tdx: ", which are looked for.
        "snp-not-enabled", "sev-command-failed", "sev-init-failed", "tdx-not-enabled",
        "private-memory-emulation", "protected-mode-failed", "rmp-update-failed", "timer-odd", "trap-read",
    }
)  # fmt: skip


class Printed(NamedTuple):
    module: str
    kernels: tuple[str, ...]
    text: str


def table() -> list[Printed]:
    rows = (line.split("\t") for line in TABLE.read_text().splitlines())
    return [Printed(module, tuple(kernels.split()), text) for module, kernels, text in rows]


def printed(text: str) -> str:
    """A format string with values put in, as printk does."""

    def value(found: re.Match[str]) -> str:
        kind = found["as"]
        if kind == "%":
            return "%"
        if kind in {"x", "X"}:
            return ("0x" if "#" in found["flags"] else "") + "1f"
        if kind in {"d", "u", "i"}:
            return "7"
        if kind.startswith("p"):
            return {"pGg": "GFP_KERNEL", "pb": "0f"}.get(kind, "0000000012345678")
        return "abc"

    plain = text.replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")
    return _CONVERSION.sub(value, plain)


def is_of_a_dump(text: str) -> bool:
    from kvmwhy.readers.kernel_log import vmcb, vmcs

    bare = re.sub(r"^(?:kvm_intel: |kvm_amd: |SVM: )", "", text).strip()
    if bare.startswith(_DUMPS):
        return True
    sections = (*vmcs.SECTIONS, *vmcb.SECTIONS)
    return any(next(section.read(printed(text)), None) or section.name in text for section in sections)


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_message_of_a_kernel_is_known(kernel: str) -> None:
    """None of the module's strings is left without an answer."""
    rows = [row for row in table() if kernel in row.kernels]
    assert len(rows) > 200
    unknown = [
        (row.module, row.text)
        for row in rows
        if not events_of(f"[    1.000000] {printed(row.text)}\n")
        and not reason(row.text)
        and not is_of_a_dump(row.text)
    ]
    # The second lines of a message are put to the first; alone they are no event.
    parts = [one.pattern for one in known() if one.slug in PARTS]
    assert [text for _, text in unknown if not any(part.read(printed(text)) for part in parts)] == []


def test_each_reason_is_for_something() -> None:
    """No entry of the ignored ones is left over."""
    texts = [row.text for row in table()]
    for start, why in IGNORED:
        assert why
        assert any(start in text for text in texts), start


def test_every_format_reads_what_it_prints() -> None:
    """Each format of the tables, printed, is read by itself, with a value for each of its names."""
    for one in known():
        text = printed(one.pattern.form.text)
        found = one.pattern.read(text)
        assert found is not None, text
        assert one.pattern.mark in text, text
        named = {name for name in one.pattern.form.names if name != "_"}
        assert named <= found.fields.keys(), text


def test_what_a_format_alone_tells_is_looked_for() -> None:
    """A message that makes a record has a mark, but for those of any device and of a start, and words of any text."""
    missed = []
    for one in known():
        text = Text(f"[    1.000000] {printed(one.pattern.form.text)}\n")
        if not asked(text.text, "kernel_log") and kernel_log.read(text).failures:
            missed.append((one.slug, one.pattern.form.text))
    anywhere = ("unhandled %s: ", "ignored %s: ")  # what they are printed with, rdmsr or wrmsr, has one
    assert [text for slug, text in missed if slug not in _SEEN_BESIDE and not text.startswith(anywhere)] == []


def test_values_have_their_width_and_sign() -> None:
    """%x is hexadecimal with or without its 0x, %d has a sign, %s ends where the text behind it begins."""
    from kvmwhy.readers.kernel_log.host_messages.printf import Pattern

    pattern = Pattern(form("%s read %#llx, error %d (%s)", "who value error why"))
    found = pattern.read("a b read 0xffffffffffffffff, error -22 (no reason)")
    assert found
    assert found.fields == {"who": "a b", "value": 0xFFFFFFFFFFFFFFFF, "error": -22, "why": "no reason"}
    assert pattern.read("a b wrote 0xff, error -22 (x)") is None
