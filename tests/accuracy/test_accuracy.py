"""The recorded accuracy on labelled public reports does not fall. Their texts are not part of this repository."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import corpus  # noqa: E402

import accuracy  # noqa: E402  a tool, not a package

RECORDED: dict[str, Any] = json.loads(accuracy.FIGURES.read_text()) if accuracy.FIGURES.exists() else {}


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    if not corpus.DEFAULT.is_dir():
        pytest.skip(f"no labelled reports at {corpus.DEFAULT}: KVMWHY_CORPUS names their directory")
    reports = corpus.load()
    if corpus.digest(reports) != RECORDED.get("corpus"):
        pytest.skip("these are other reports than those of docs/accuracy.json")
    said = accuracy.answers(reports)
    return accuracy.figures(said, accuracy.guesses(said))


def test_the_mechanism_is_named_as_often_as_recorded(figures: dict[str, Any]) -> None:
    """What happened: no report is lost, and nothing that is called certain is wrong more often."""
    assert figures["mechanism"]["first"] >= RECORDED["mechanism"]["first"]
    assert figures["mechanism"]["certain_but_wrong"] <= RECORDED["mechanism"]["certain_but_wrong"]


@pytest.mark.parametrize("which", ["yes", "yes+candidate"])
@pytest.mark.parametrize("place", ["first", "among_three"])
def test_the_origin_is_named_as_often_as_recorded(figures: dict[str, Any], which: str, place: str) -> None:
    """Whose doing: the honest figure, with everything left out that a report alone supports."""
    assert figures["origin"]["honest"][which][place] >= RECORDED["origin"]["honest"][which][place]


def test_the_evidence_improves_on_the_priors(figures: dict[str, Any]) -> None:
    """The Brier score of left-out reports is below that of the priors alone."""
    assert figures["origin"]["honest"]["brier"] < figures["origin"]["priors"]["brier"]


def test_the_priors_are_those_of_the_labels() -> None:
    """prior_counts.py is what tools/count_priors.py makes of the labelled reports."""
    import count_priors

    if not corpus.DEFAULT.is_dir():
        pytest.skip(f"no labelled reports at {corpus.DEFAULT}")
    reports = corpus.load()
    if corpus.digest(reports) in count_priors.TABLE.read_text():
        from kvmwhy.diagnosis.knowledge.priors import COUNTS

        assert {m: dict(c) for m, c in corpus.counts(reports).items()} == COUNTS
