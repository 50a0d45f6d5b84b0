"""The pages on mechanisms, origins and numbers: each answer has one, and every way that people type leads there."""

from __future__ import annotations

import pytest

from kvmwhy.diagnosis import catalogue
from kvmwhy.diagnosis.knowledge.pages import MECHANISMS, ORIGINS, PAGES, Page, page_of
from kvmwhy.render.page import to_plain
from kvmwhy.render.text import page

# The two axes as they are defined for labelled reports.
WHAT_HAPPENED = [
    "emulation-no-handler",
    "emulation-gives-up",
    "emulation-failed",
    "fetch-not-ram",
    "event-delivery",
    "simultaneous-events",
    "exit-unhandled",
    "entry-refused-guest-state",
    "entry-refused-controls",
    "entry-vmfail-no-number",
    "run-errno",
    "setup-refused",
    "triple-fault",
    "exit-unknown-to-vmm",
    "exit-unknown-to-kvm",
    "exception-exit",
    "guest-loops",
    "undef-injected",
    "host-trouble",
    "not-this",
    "not-shown",
]
WHOSE = [
    "guest-code",
    "guest-firmware",
    "vm-configuration",
    "vmm",
    "vmm-race",
    "host-kernel",
    "host-setup",
    "outer-hypervisor",
    "cpu",
    "confidential-stack",
    "host-dying",
    "none",
]


def test_every_answer_has_a_page() -> None:
    """No answer can be given that `kvmwhy cause` does not explain; ids are told apart from the catalogue's."""
    assert [entry.id for entry in MECHANISMS] == WHAT_HAPPENED
    assert [entry.id for entry in ORIGINS] == WHOSE
    ids = [entry.id for entry in PAGES]
    assert len(set(ids)) == len(ids)


def test_pages_lead_to_pages() -> None:
    """What "see also" names without a source's path exists."""
    known = {*(entry.id for entry in PAGES), *catalogue()}
    for entry in PAGES:
        for see in entry.see:
            assert see in known or " " in see, f"{entry.id}: {see}"


@pytest.mark.parametrize(
    ("typed", "leads_to"),
    [
        ("KVM internal error. Suberror: 3", "suberror-3"),
        ("hardware error 0x80000021", "hardware-error-0x80000021"),
        ("0x80000021", "hardware-error-0x80000021"),
        ("KVM: entry failed, hardware error 0x7", "hardware-error-0x7"),
        ("0xffffffff", "hardware-error-0xffffffff"),
        ("Bad address", "bad-address"),
        ("error: kvm run failed Bad address", "bad-address"),
        ("nested", "outer-hypervisor"),
    ],
)
def test_what_people_type_leads_to_a_page(typed: str, leads_to: str) -> None:
    """Error lines as they are printed, numbers, and short names."""
    found = page_of(typed)
    assert found is not None
    assert found.id == leads_to


@pytest.mark.parametrize("entry", PAGES, ids=lambda entry: entry.id)
def test_every_page_can_be_shown(entry: Page) -> None:
    """Each fits a terminal, and has a title and a text."""
    text = to_plain(page(entry), 80)
    assert text.count("\n") > 6
    assert max(map(len, text.splitlines())) <= 80
