"""One small file per cause: its catalogue page, and the rule that finds it."""

from __future__ import annotations

from kvmwhy.diagnosis.rules import (
    emulator_gives_up,
    emulator_no_handler,
    event_delivery,
    fetch_non_ram,
    undecided,
)

# In the order in which equally sure findings are shown: the more specific first.
_MODULES = (fetch_non_ram, event_delivery, emulator_no_handler, emulator_gives_up)

RULES = tuple(module.rule for module in _MODULES)
CAUSES = (*(module.CAUSE for module in _MODULES), undecided.CAUSE)
UNDECIDED = undecided.finding
