"""Every text that there is: the project's own fixtures, and public reports where they lie beside the checkout."""

from __future__ import annotations

import gzip
import os
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CORPUS = Path(os.environ.get("KVMWHY_CORPUS", ROOT.parent / "shared" / "corpus"))
SAMPLES = CORPUS.parent / "samples"
NO_CORPUS = f"no public reports in {CORPUS}: set KVMWHY_CORPUS"


@cache
def own() -> dict[str, bytes]:
    """The texts of fixtures and examples, by name."""
    found = {}
    for top in (ROOT / "tests" / "fixtures", ROOT / "examples"):
        for path in sorted(top.rglob("*")):
            if path.suffix in {".log", ".dmesg", ".txt"} or path.name.endswith(".txt.gz"):
                data = path.read_bytes()
                found[str(path.relative_to(ROOT))] = gzip.decompress(data) if path.suffix == ".gz" else data
    return found


@cache
def public() -> dict[str, bytes]:
    """Reports and genuine samples, by name; none in a checkout that has no corpus beside it."""
    paths = [*sorted(CORPUS.glob("*/evidence.txt")), *sorted(SAMPLES.rglob("*.txt")), *sorted(SAMPLES.rglob("*.log"))]
    return {str(path.relative_to(CORPUS.parent)): path.read_bytes() for path in paths}
