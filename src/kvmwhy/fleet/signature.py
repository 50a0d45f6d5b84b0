"""What makes two failures the same: mechanism, instruction, access and place, not addresses that vary.

A signature names its parts, so that a group can say why a failure is in it. Versions live side by side: a new one is
added as a module of its own, an old one never changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from kvmwhy.diagnosis import Diagnosis
from kvmwhy.fleet import signature_v2, signature_v3

Parts = tuple[tuple[str, str], ...]
VERSIONS: Final[dict[int, Callable[[Diagnosis], Parts]]] = {2: signature_v2.parts, 3: signature_v3.parts}
NEWEST: Final = max(VERSIONS)


class Signature(NamedTuple):
    """``parts`` are (name, value) in a fixed order; a part that does not apply is absent, one not known is ``?``."""

    version: int
    parts: Parts

    @property
    def key(self) -> str:
        """One line: what is grouped by."""
        return f"v{self.version} " + " ".join(f"{name}={value.replace(' ', '_')}" for name, value in self.parts)

    @property
    def why(self) -> str:
        """The same for a person."""
        return ", ".join(f"{name} {'not known' if value == '?' else value}" for name, value in self.parts)


def sign(diagnosis: Diagnosis, version: int = NEWEST) -> Signature:
    """The signature of a diagnosis. Raises KeyError for a version that never was."""
    return Signature(version, VERSIONS[version](diagnosis))
