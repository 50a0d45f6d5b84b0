"""What the recipes need to be run: programs and packages; or the reason why their tests skip."""

import os
import shutil
import subprocess
from pathlib import Path

from needs import missing

ROOT = Path(__file__).parent.parent.parent
TOOLS = Path(os.environ.get("KVMWHY_RECIPE_TOOLS") or ROOT / ".tools" / "recipes")  # of get-tools
_PLACES = ("usr/sbin", "usr/bin", "bin", "lib/systemd", "usr/lib/systemd")


class Program:
    """A program of this machine, or one that was only unpacked: then with the libraries beside it."""

    def __init__(self, name: str) -> None:
        places = [str(TOOLS / place) for place in _PLACES]
        path = shutil.which(name, path=os.pathsep.join([*places, "/lib/systemd", "/usr/sbin"])) or shutil.which(name)
        if path is None:
            missing("recipes", f"no {name} here; tests/recipes/get-tools gets it")
        self.path = path
        self.environment = dict(os.environ)
        self.root = Path("/")
        if path.startswith(str(TOOLS)):
            self.root = TOOLS
            libraries = {str(file.parent) for file in TOOLS.rglob("*.so*") if "syslog" not in file.parent.name}
            libraries.add(str(TOOLS / "usr" / "lib" / "syslog-ng"))
            self.environment["LD_LIBRARY_PATH"] = os.pathsep.join(sorted(libraries))

    def directory(self, pattern: str) -> str:
        """The one that has modules of it."""
        return str(next(self.root.glob(pattern)))

    def start(self, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
        """In the foreground; whoever starts it ends it."""
        with log.open("ab") as sink:
            return subprocess.Popen([self.path, *map(str, arguments)], env=self.environment, stdout=sink, stderr=sink)

    def run(self, *arguments: object) -> None:
        subprocess.run(
            [self.path, *map(str, arguments)], env=self.environment, check=True, capture_output=True, timeout=60
        )
