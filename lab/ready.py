"""What a script of the lab needs before it begins: a place to work, the programs of its bench, kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lab import benches, kernels
from lab.architectures import X86


class NotReadyError(Exception):
    """Something is missing here; the text has the command that gets it."""


def work_directory() -> Path:
    return Path(os.environ.get("KVMWHY_LAB") or Path.home() / ".cache" / "kvmwhy-lab")


def kernels_for(bench: str, work: Path, wanted: Sequence[str], *, fetch: str = "") -> list[kernels.Kernel]:
    """Those of the wanted series or releases, or the newest of each series. Raises NotReadyError.

    ``fetch``: the command that a person is told if there are none, where it is not that of run.py.
    """
    if lacks := benches.missing(bench):
        raise NotReadyError(
            f"no {', '.join(lacks)}: apt-get install --no-install-recommends {' '.join(lacks.values())}"
        )
    architecture = benches.BENCHES[bench].architecture
    try:
        chosen = kernels.choose(work, wanted, architecture)
    except FileNotFoundError as error:
        raise NotReadyError(str(error)) from None
    if not chosen:
        default = f"python lab/run.py fetch{'' if architecture is X86 else f' {architecture.name}'}"
        raise NotReadyError(f"no kernels in {work}: run `{fetch or default}` first")
    return chosen
