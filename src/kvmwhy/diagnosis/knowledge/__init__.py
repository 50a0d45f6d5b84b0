"""Known bugs of host kernels, QEMU, firmware, outer hypervisors, CPUs and guests, and whether a failure looks like one.

The entries are plain data in Python: their types are checked, and compiled they load in 2 ms, where the same
text as TOML takes 10. A match is a lead, never a proof: it is at most likely, and that only
if the version is known to have the bug.
"""

from __future__ import annotations

from kvmwhy.diagnosis.knowledge.match import all_bugs, causes, known, matches

__all__ = ["all_bugs", "causes", "known", "matches"]
