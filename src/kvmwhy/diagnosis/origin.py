"""Whose doing it was: a distribution over the origins.

The prior is counted from labelled public reports of the mechanism, with an expert's pseudo-counts where they are few.
Each sign that is there adds its weights (log-odds), and so does the best of the known bugs whose conditions all hold.
Nothing else decides. The temperature was fitted so that the shares keep their word on reports that were left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from kvmwhy.diagnosis.answer import Mechanism, Origin, Proof
from kvmwhy.diagnosis.facts import Facts
from kvmwhy.diagnosis.knowledge import priors
from kvmwhy.diagnosis.knowledge.match import Match, matches
from kvmwhy.diagnosis.knowledge.sign import ORIGINS, Answer, OfEvents, Sign, Weights
from kvmwhy.diagnosis.knowledge.signs import SIGNS
from kvmwhy.diagnosis.knowledge.weights import FITTED, TEMPERATURE
from kvmwhy.diagnosis.scene import Scene, scene_of
from kvmwhy.record import At, HostEvent

_MOST_PROOFS: Final = 6


class Omit(NamedTuple):
    """What a run that scores the program against a report leaves out: the report's counts, and what only it supports.

    ``counts`` are of its mechanism; ``fitted`` replaces the fitted weights.
    """

    counts: Mapping[str, int] = MappingProxyType({})
    entries: frozenset[str] = frozenset()
    fitted: dict[str, Weights] | None = None


class Evidence(NamedTuple):
    """One sign or known bug that holds here."""

    id: str
    proof: Proof
    weights: Weights


_NOTHING: Final = Omit()


def origins(facts: Facts, mechanism: Mechanism, *, omit: Omit = _NOTHING) -> tuple[Origin, ...]:
    """Every origin with its share, best first; the shares sum to 1."""
    return origins_in(scene_of(facts, mechanism.id), matches(facts), omit=omit)


def origins_in(scene: Scene, fitting: tuple[Match, ...], *, omit: Omit = _NOTHING) -> tuple[Origin, ...]:
    """The same, of a scene and the known bugs that fit it."""
    evidence = evidence_in(scene, fitting, omit=omit)
    if omit is not _NOTHING:
        return _weighed(scene.mechanism, evidence, omit)
    return _remembered(scene.mechanism, tuple([(item.id, item.proof, *item.weights.items()) for item in evidence]))


@lru_cache(maxsize=1024)  # a host's failures have the same signs again and again
def _remembered(mechanism: str, evidence: tuple[tuple[Any, ...], ...]) -> tuple[Origin, ...]:
    return _weighed(mechanism, tuple(Evidence(name, proof, dict(pairs)) for name, proof, *pairs in evidence), _NOTHING)


def _weighed(mechanism: str, evidence: tuple[Evidence, ...], omit: Omit) -> tuple[Origin, ...]:
    counts = priors.COUNTS.get(mechanism, {})
    shares = shares_of(mechanism, evidence, omit=omit)
    for_: dict[str, list[tuple[float, Proof]]] = {}
    against: dict[str, list[tuple[float, Proof]]] = {}
    for item in evidence:
        for origin, weight in item.weights.items():
            if weight:
                (for_ if weight > 0 else against).setdefault(origin, []).append((abs(weight), item.proof))
    return tuple(
        [
            Origin(
                origin,
                shares[origin],
                counts.get(origin, 0) - omit.counts.get(origin, 0),
                _heaviest(for_[origin]) if origin in for_ else (),
                _heaviest(against[origin]) if origin in against else (),
            )
            for origin in sorted(ORIGINS, key=shares.__getitem__, reverse=True)
        ]
    )


def _heaviest(weighed: list[tuple[float, Proof]]) -> tuple[Proof, ...]:
    if len(weighed) > 1:
        weighed.sort(key=itemgetter(0), reverse=True)
    return tuple([proof for _, proof in weighed[:_MOST_PROOFS]])


def shares_of(
    mechanism: str, evidence: tuple[Evidence, ...], *, omit: Omit = _NOTHING, temperature: float = TEMPERATURE
) -> dict[str, float]:
    """Softmax over the logarithm of the prior and the sum of the weights."""
    scores = _log_prior(mechanism, tuple(omit.counts.items())).copy()
    for item in evidence:
        for origin, weight in item.weights.items():
            scores[origin] += weight
    most = max(scores.values())
    raised = {origin: math.exp((score - most) * temperature) for origin, score in scores.items()}
    total = sum(raised.values())
    return {origin: value / total for origin, value in raised.items()}


@lru_cache(maxsize=256)
def _log_prior(mechanism: str, without: tuple[tuple[str, int], ...]) -> dict[str, float]:
    return {origin: math.log(share) for origin, share in priors.prior(mechanism, without=dict(without)).items()}


def evidence_of(facts: Facts, mechanism: str, *, omit: Omit = _NOTHING) -> tuple[Evidence, ...]:
    """The signs that are there, and the one known bug that says most."""
    return evidence_in(scene_of(facts, mechanism), matches(facts), omit=omit)


def evidence_in(scene: Scene, fitting: tuple[Match, ...], *, omit: Omit = _NOTHING) -> tuple[Evidence, ...]:
    """The same, of a scene and the known bugs that fit it."""
    evidence = [
        Evidence(sign.id, _proof(sign, answer), weights_of(sign, omit))
        for sign in _signs_of(scene.mechanism, eventful=bool(scene.events))
        if sign.id not in omit.entries and (answer := sign.test(scene))
    ]
    counting = [match for match in fitting if match.bug.id not in omit.entries and not match.bug.nursery]
    if counting:
        best = max(counting, key=lambda match: match.weight)
        proof = Proof(
            f"it looks like a known bug: {best.bug.title}", At(register="rip") if scene.rip is not None else None
        )
        evidence.append(Evidence(best.bug.id, proof, {best.bug.origin: best.weight}))
    return tuple(evidence)


def weights_of(sign: Sign, omit: Omit = _NOTHING) -> Weights:
    """The fitted weights where reports support them, else the expert's."""
    fitted = FITTED if omit.fitted is None else omit.fitted
    return fitted.get(sign.id, sign.weights)


@cache
def _signs_of(mechanism: str, *, eventful: bool) -> tuple[Sign, ...]:
    """Those that may be there; what the host's kernel logs is only asked for where it logs anything."""
    return tuple(
        sign
        for sign in SIGNS
        if (sign.mechanisms is None or mechanism in sign.mechanisms)
        and (eventful or not isinstance(sign.test, OfEvents))
    )


def _proof(sign: Sign, answer: Answer) -> Proof:
    if isinstance(answer, HostEvent):
        return Proof(sign.says, answer.at)
    if isinstance(answer, At):
        return Proof(sign.says, answer)
    if isinstance(answer, str):
        return Proof(sign.says.replace("{}", answer))
    return Proof(sign.says.replace(" ({})", ""))
