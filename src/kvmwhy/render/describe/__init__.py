"""Words for what a record holds besides numbers: a refused set-up, a symptom, another hypervisor's failure."""

from __future__ import annotations

from kvmwhy.record import Failure


def about(failure: Failure) -> tuple[str, ...]:
    """Sentences for a person, most useful first; none for a failure that has its words elsewhere."""
    if failure.setup is not None:
        from kvmwhy.render.describe.setup import set_up

        return set_up(failure)
    if failure.symptom is not None:
        from kvmwhy.render.describe.symptom import symptom

        return symptom(failure.symptom)
    if failure.speaker is not None:
        from kvmwhy.render.describe.speaker import speaker

        return speaker(failure.speaker)
    return ()
