"""The knowledge proves itself: each entry comes out of its example, and each table keeps its own rules."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import knowledge_lint  # noqa: E402  a tool, not a package

from kvmwhy.diagnosis.cause import FAMILIES  # noqa: E402
from kvmwhy.diagnosis.knowledge import all_bugs, causes, mechanism_of  # noqa: E402
from kvmwhy.diagnosis.knowledge.bug import Bug  # noqa: E402
from kvmwhy.diagnosis.knowledge.predicate import CONDITIONS, Shape  # noqa: E402
from kvmwhy.diagnosis.knowledge.priors import COUNTS, EXPERT, prior  # noqa: E402
from kvmwhy.diagnosis.knowledge.sign import ORIGINS, Sign  # noqa: E402
from kvmwhy.diagnosis.knowledge.signs import SIGNS  # noqa: E402
from kvmwhy.diagnosis.knowledge.weights import FITTED  # noqa: E402
from kvmwhy.record import Kind  # noqa: E402

# The slugs of a mechanism, as the labels of public reports use them.
MECHANISMS = {
    "emulation-no-handler", "emulation-gives-up", "emulation-failed", "fetch-not-ram", "event-delivery",
    "simultaneous-events", "exit-unhandled", "entry-refused-guest-state", "entry-refused-controls",
    "entry-vmfail-no-number", "run-errno", "setup-refused", "triple-fault", "exit-unknown-to-vmm",
    "exit-unknown-to-kvm", "exception-exit", "guest-loops", "undef-injected", "host-trouble", "not-this", "not-shown",
}  # fmt: skip
BUGS = all_bugs()
IDS = [bug.id for bug in BUGS]
# An address, a commit, a file of the kernel, a manual's section, or a list and a subject.
SOURCE = (
    r"https?://|[0-9a-f]{10,12}|/[a-z0-9_-]+\.(?:[ch]|rst|txt)\b|\"(?:KVM|kvm)|\blists?\b|-devel|forums\.org"
    r"|change logs|APM vol|SDM vol|selftests"
)


@pytest.mark.parametrize("bug", [bug for bug in BUGS if not bug.nursery], ids=[b.id for b in BUGS if not b.nursery])
def test_a_bug_comes_out_of_its_example(bug: Bug) -> None:
    """Text in the programs' own formats goes in; the entry is among what comes out."""
    example = knowledge_lint.EXAMPLES / f"{bug.id}.txt"
    assert bug.id in knowledge_lint.come_out(example.read_bytes())


def test_every_cause_comes_out_of_some_example() -> None:
    """No page of the catalogue that no log can lead to."""
    silent = [result.id for result in knowledge_lint.lint() if not result.fires and not result.nursery]
    assert silent == []


@pytest.mark.parametrize("sign", SIGNS, ids=[sign.id for sign in SIGNS])
def test_a_sign_is_whole(sign: Sign) -> None:
    """It names mechanisms and origins that there are, weighs in half steps up to three, and gives its reason."""
    assert re.fullmatch(r"[a-z0-9.-]+", sign.id)
    assert set(sign.mechanisms or ()) <= MECHANISMS
    assert sign.weights
    assert set(sign.weights) <= set(ORIGINS)
    assert all(weight and abs(weight) <= 3 and weight * 2 == int(weight * 2) for weight in sign.weights.values())
    assert sign.says
    assert not sign.says.endswith(".")
    assert sign.source.endswith(".") or "/" in sign.source or ":" in sign.source


def test_signs_have_names_of_their_own() -> None:
    """A proof is traced back to its sign by the id."""
    names = [sign.id for sign in SIGNS]
    assert len(set(names)) == len(names)
    assert not set(names) & set(IDS)


def test_fitted_weights_stay_within_what_the_expert_named() -> None:
    """The fit moves weights; it adds no origin, and it writes half steps."""
    expert = {sign.id: sign.weights for sign in SIGNS}
    for name, by_origin in FITTED.items():
        assert set(by_origin) == set(expert[name])
        assert all(abs(weight) <= 3 and weight * 2 == int(weight * 2) for weight in by_origin.values())


@pytest.mark.parametrize("mechanism", sorted(MECHANISMS))
def test_a_prior_makes_no_origin_impossible(mechanism: str) -> None:
    """A few dozen reports cannot rule out what they happen not to show."""
    shares = prior(mechanism)
    assert set(shares) == set(ORIGINS)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0.002 for share in shares.values())


def test_counts_and_pseudo_counts_name_mechanisms_and_origins_that_there_are() -> None:
    """What a table of counts calls something else would never be looked up."""
    for table in (COUNTS, EXPERT):
        assert set(table) <= MECHANISMS
        assert {origin for by_origin in table.values() for origin in by_origin} <= set(ORIGINS)


@pytest.mark.parametrize("bug", BUGS, ids=IDS)
def test_the_page_of_a_bug_is_whole(bug: Bug) -> None:
    """What a person reads: a title, a paragraph, signs, a way out, and a source that can be looked up."""
    cause = bug.cause()
    assert re.fullmatch(r"bug-[a-z0-9.-]+", cause.id)
    assert bug.origin in ORIGINS
    assert cause.family in FAMILIES
    assert not cause.title.endswith(".")
    assert len(cause.what) > 80
    assert cause.recognise
    assert cause.example
    assert cause.confused_with.endswith(".")
    assert any(cause.fix)
    assert all(text is None or text.endswith(".") for text in cause.fix)
    assert cause.references
    assert all(re.search(SOURCE, source) for source in cause.references)


def test_ids_that_entries_name_exist() -> None:
    """``also`` names entries; a cause called in ``confused_with`` as bug-… is an entry."""
    ids = set(IDS)
    assert len(ids) == len(IDS)
    for bug in BUGS:
        assert set(bug.also) <= ids - {bug.id}
        assert set(re.findall(r"\bbug-[a-z0-9.-]*[a-z0-9]", bug.confused_with)) <= ids
    assert [cause.id for cause in causes()] == IDS


def test_the_conditions_are_the_fields() -> None:
    """Every field of a shape has its test and its words."""
    assert set(CONDITIONS) == set(Shape.__struct_fields__)


def test_mechanisms_of_causes_are_mechanisms() -> None:
    """A family, kind or suberror that there is leads to answers of the decision list, and to nothing else."""
    tables = (mechanism_of.OF_FAMILY, mechanism_of.OF_KIND, mechanism_of.OF_SUBERROR)
    named = {mechanism for table in tables for mechanisms in table.values() for mechanism in mechanisms}
    assert named <= MECHANISMS
    assert set(mechanism_of.OF_FAMILY) <= set(FAMILIES)
    assert set(mechanism_of.OF_KIND) <= set(get_args(Kind))
    assert set(mechanism_of.OF_SUBERROR) == set(range(1, 5)), "include/uapi/linux/kvm.h: KVM_INTERNAL_ERROR_*"
