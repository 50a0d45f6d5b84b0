"""Weights that labelled reports support, in place of the expert's. Written by tools/fit_origins.py; do not edit."""

from __future__ import annotations

from typing import Final

TEMPERATURE: Final = 1.0
FITTED: Final[dict[str, dict[str, float]]] = {}
