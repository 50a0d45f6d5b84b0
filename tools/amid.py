"""Every report amid other lines: is it explained as it is alone? Prints how many are, and names those that are not.

    python tools/amid.py [--all] [--size 2] [--size 8]

It fails if there are any. Reports are the project's fixtures and, where KVMWHY_CORPUS or ../shared/corpus is there,
public ones and samples. What is compared are the records, without the places and times at which they were seen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pipeline.test_one_road import FILLER, amid, told
from pipeline.texts import own, public


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="not only every tenth")
    parser.add_argument("--size", type=int, action="append", help="MiB of other lines (2)")
    options = parser.parse_args()
    texts = list({**own(), **public()}.items())[:: 1 if options.all else 10]
    any_differs = False
    for size in options.size or [2]:
        for place in ("behind", "in front", "between"):
            differ = []
            for name, text in texts:
                whole = text if text.endswith(b"\n") else text + b"\n"
                if told(amid(whole, FILLER["plain lines"], size << 20)[place]) != told(whole):
                    differ.append(name)
            any_differs = any_differs or bool(differ)
            print(f"{size} MiB, {place}: {len(texts) - len(differ)} of {len(texts)} the same", *differ, sep="\n  ")
    sys.exit(any_differs)


if __name__ == "__main__":
    main()
