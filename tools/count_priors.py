"""Recount how many labelled public reports have which origin, by mechanism.

    .venv/bin/python tools/count_priors.py [--corpus DIR]

Writes src/kvmwhy/diagnosis/knowledge/prior_counts.py: slugs and numbers, no one's text.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import corpus

TABLE: Final = Path(__file__).parent.parent / "src/kvmwhy/diagnosis/knowledge/prior_counts.py"
HEAD: Final = '''"""How many labelled public reports have which origin, by mechanism. Written by tools/count_priors.py.

Of {all} reports {known} have a known origin. Digest of the corpus: {digest}.
"""

from __future__ import annotations

from typing import Final

COUNTS: Final[dict[str, dict[str, int]]] = {{
'''


def table(reports: list[corpus.Report]) -> str:
    """The module's text."""
    out = [HEAD.format(all=len(reports), known=sum(report.known for report in reports), digest=corpus.digest(reports))]
    for mechanism, origins in sorted(corpus.counts(reports).items()):
        out.append(f'    "{mechanism}": {{\n')
        rows = sorted(origins.items(), key=lambda row: (-row[1], row[0]))
        out += [f'        "{origin}": {count},\n' for origin, count in rows]
        out.append("    },\n")
    return "".join((*out, "}\n"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=corpus.DEFAULT)
    reports = corpus.load(parser.parse_args().corpus)
    if not reports:
        raise SystemExit("no labelled reports there")
    TABLE.write_text(table(reports))
    print(f"{TABLE}: {sum(report.known for report in reports)} reports")


if __name__ == "__main__":
    main()
