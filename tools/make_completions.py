"""Write contrib/completions/: what `kvmwhy completion` prints, as files for packages and for the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

from click.shell_completion import get_completion_class

from kvmwhy.cli.main import kvmwhy

FOLDER = Path(__file__).resolve().parent.parent / "contrib" / "completions"
NAMES = {"bash": "kvmwhy.bash", "zsh": "_kvmwhy", "fish": "kvmwhy.fish"}


def main() -> int:
    """Write every file, or with --check compare them; 1 if one differs."""
    stale = 0
    for name, text in files().items():
        path = FOLDER / name
        if "--check" not in sys.argv:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"{path.name} is not what tools/make_completions.py makes")
            stale = 1
    return stale


def files() -> dict[str, str]:
    """File name → script."""
    return {name: script(shell) for shell, name in NAMES.items()}


def script(shell: str) -> str:
    """What the shell is to read. Raises KeyError for a shell that click does not know."""
    completion = get_completion_class(shell)
    if completion is None:
        raise KeyError(shell)
    return completion(kvmwhy, {}, "kvmwhy", "_KVMWHY_COMPLETE").source().strip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
