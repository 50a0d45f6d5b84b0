"""Every --json is one object a line, as the schema has it that the package ships and `kvmwhy schema` prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from guests.qemu import unavailable
from kvmwhy.cli.main import kvmwhy
from kvmwhy.testing import FAILURES
from needs import missing
from schemas import keeps_to, validator

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
LOG = FIXTURES / "lab-svm" / "qemu-6.1" / "long64-vmovdqu" / "qemu.log"
JUMP = ROOT / "examples" / "jump-into-vga-window.log"


def output(*args: str, statuses: tuple[int, ...] = (0,)) -> str:
    result = CliRunner().invoke(kvmwhy, list(args), catch_exceptions=False)
    assert result.exit_code in statuses, result.stderr
    return result.stdout


@pytest.fixture
def image(tmp_path: Path) -> str:
    """`fld dword ptr [rbx]`, of a guest that has no memory there."""
    path = tmp_path / "flds.bin"
    path.write_bytes(bytes.fromhex("d903"))
    return str(path)


def test_the_shipped_schemas_are_what_the_types_say() -> None:
    """tools/make_schemas.py would write the same; each is a valid schema with an id of its own or explain's."""
    sys.path.insert(0, str(ROOT / "tools"))
    from make_schemas import SCHEMAS, files

    assert {path.name: path.read_text() for path in SCHEMAS.iterdir()} == files()
    ids = {name: json.loads(text)["$id"] for name, text in files().items()}
    assert all(name.startswith("urn:kvmwhy:schema:") for name in ids.values())
    same = {ids[f"{name}.schema.json"] for name in ("explain", "watch", "exec")}
    assert len(same) == 1
    assert len(set(ids.values())) == len(ids) - 2


def test_schema_lists_and_prints() -> None:
    """Without a name, the names; with one, the file; another name is a usage error."""
    names = output("schema").split()
    assert {"explain", "atlas", "probe", "doctor", "triage", "reproduce", "run", "watch", "attach"} <= set(names)
    for name in names:
        assert json.loads(output("schema", name)) == validator(name).schema
    output("schema", "nothing", statuses=(2,))


def test_explain_and_redact(tmp_path: Path) -> None:
    """Logs, pages of every failure, kernel logs and traces; a redacted record is one that is read, too."""
    pages = []
    for name, page in FAILURES.items():
        path = tmp_path / f"{name}.page"
        path.write_bytes(page)
        pages.append(str(path))
    logs = [str(path) for path in sorted(FIXTURES.glob("*/qemu.log"))]
    seen = keeps_to("explain", output("explain", "--json", *logs, *pages, statuses=(0, 4)))
    assert len(seen) > len(FAILURES)
    assert keeps_to("explain", output("redact", "--json", str(LOG)))


def test_run_and_what_it_explains(image: str) -> None:
    """Exits and the failure; the model of KVM stands in for /dev/kvm."""
    pytest.importorskip("unicorn", reason="the model needs the extra `model`")
    written = keeps_to("run", output("run", image, "--reg", "rbx=0xd0000000", "--on", "model", "--json"))
    assert ["mechanism" in item for item in written] == [False, True]
    read = Path(image)
    read.write_bytes(bytes.fromhex("8b 03 ee f4"))  # mov eax,[rbx]; out dx,al; hlt
    assert len(keeps_to("run", output("run", image, "--reg", "rbx=0xd0000000", "--on", "model", "--json"))) >= 3


def test_reproduce() -> None:
    """One verdict, a matrix, and a failure that cannot be run again."""
    pytest.importorskip("unicorn", reason="the model needs the extra `model`")
    assert keeps_to("reproduce", output("reproduce", str(LOG), "--on", "model", "--json", statuses=(0, 1)))
    matrix = ("reproduce", str(LOG), "--matrix", "model", "--kernel", "6.1", "--vendor", "svm", "--json")
    assert keeps_to("reproduce", output(*matrix))[0]["status"] == "matrix"


def test_atlas() -> None:
    """Forms, a difference, the kernels; and the same of arm64 and riscv64."""
    assert keeps_to("atlas", output("atlas", "movbe eax, [rdi]", "--json"))
    assert keeps_to("atlas", output("atlas", "--json"))
    assert keeps_to("atlas", output("atlas", "--diff", "6.18", "7.3", "--json"))
    assert keeps_to("atlas", output("atlas", "--arch", "arm64", "ldp x0, x1, [x2]", "--json"))
    assert keeps_to("atlas", output("atlas", "--arch", "arm64", "ld64b x0, [x2]", "--json"))
    assert keeps_to("atlas", output("atlas", "--arch", "riscv64", "lw a0, 4(a1)", "--json"))
    assert keeps_to("atlas", output("atlas", "--arch", "arm64", "--json"))
    benches = ("7.2 on QEMU 7.2", "7.2 on QEMU 10.0")
    assert keeps_to("atlas", output("atlas", "--arch", "riscv64", "--diff", *benches, "--json"))


def test_cause_and_doctor() -> None:
    """All entries of the catalogue; what this host offers, /dev/kvm or not."""
    assert len(keeps_to("cause", output("cause", "--json"))) > 100
    assert len(keeps_to("doctor", output("doctor", "--json", statuses=(0, 3)))) == 1


def test_scan_and_triage(tmp_path: Path) -> None:
    """Rows, and the groups made of them."""
    pytest.importorskip("duckdb", reason="triage needs the extra `fleet`")
    table = tmp_path / "rows.jsonl"
    output("scan", str(LOG), str(JUMP), "--out", str(table), statuses=(0, 4))
    assert len(keeps_to("scan", table.read_text())) == 2
    (triaged,) = keeps_to("triage", output("triage", str(table), "--json"))
    assert len(triaged["groups"]) == 2


@pytest.mark.live
def test_probe() -> None:
    """Forms that this host's KVM carries out, and some that cannot be asked here."""
    if why := unavailable():
        missing("live", why)
    assert keeps_to("probe", output("probe", "--instruction", "movbe eax, [rdi]", "--mode", "long64", "--json"))
