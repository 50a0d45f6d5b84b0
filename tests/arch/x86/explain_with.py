"""Run as a program: the JSON and the signatures of every failure in the files, by the decoder that is named."""

from __future__ import annotations

import sys
from pathlib import Path

from kvmwhy.arch.x86.decoder import NAMES, choose
from kvmwhy.diagnosis import diagnose
from kvmwhy.fleet import signature_v2
from kvmwhy.readers import read
from kvmwhy.render.json import to_json


def main() -> None:
    choose(next(name for name in NAMES if name == sys.argv[1]))
    for path in sys.argv[2:]:
        for failure in read(Path(path).read_bytes()).failures:
            diagnosis = diagnose(failure)
            sys.stdout.write(f"{path} {to_json(diagnosis).decode()} {signature_v2.parts(diagnosis)!r}\n")


if __name__ == "__main__":
    main()
