"""The command line: thin commands; what they need is imported inside them."""

from __future__ import annotations

import gc

# A start makes some 30,000 objects that stay: they are not searched for cycles.
gc.set_threshold(50_000, 10, 10)
