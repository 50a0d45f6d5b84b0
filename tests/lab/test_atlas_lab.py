"""lab.atlas: kernels are booted again, and say what the atlas has; and what can be told without a boot."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from kvmwhy.emulator.atlas import Atlas
from kvmwhy.emulator.atlas_file import Kernel
from kvmwhy.emulator.measured import Measured
from kvmwhy.probe.encodings import form_of
from kvmwhy.probe.sweep_format import Probe, Raw
from lab import atlas, benches, crosscheck, kernels, sweep
from lab.ready import work_directory
from needs import missing

MOV = form_of(bytes.fromhex("8b 13"), "long64")
FLD = form_of(bytes.fromhex("d9 03"), "long64")
SAMPLED = ("5.10", "6.1", "7.3")
EVERY = 60


def raw(**values: Any) -> Raw:
    known: dict[str, Any] = {"reason": 5, "at": 0x400109, "suberror": 0, "ndata": 0, "fetched": 0, "accesses": "r4"}
    return Raw(**known | {"native_reason": 5, "native_at": 0x400109, "differs": 0, "differs_other": 0} | values)


def test_turns_that_disagree() -> None:
    """Most turns decide, and the form is reported."""
    fails = raw(reason=17, suberror=1, accesses="")
    found, unsteady = atlas.verdicts_of([{0: raw()}, {0: fails}, {0: raw()}], [Probe(MOV, "stale")])
    assert found[MOV].kind == "emulated"
    assert unsteady == [MOV]
    slow = raw(native_reason=-4)
    found, unsteady = atlas.verdicts_of([{0: slow}, {0: raw()}], [Probe(MOV, "stale")])
    assert (found[MOV].compared, unsteady) == ("same", [])


def test_what_the_cpu_did_by_itself() -> None:
    """Asked plainly, a form that KVM had no hand in says nothing of KVM: the CPU lacks it, or went on."""
    lacking = raw(at=0x9061, native_at=0x9061, accesses="")
    for one, known in ((lacking, False), (raw(accesses=""), False), (raw(), True), (raw(reason=17), True)):
        found, _ = atlas.verdicts_of([{0: one}], [Probe(MOV, "plain")])
        assert (MOV in found) is known


def test_a_bench_can_be_wrong() -> None:
    """A result that is wrong on one emulated CPU and right on the other is no evidence against KVM."""

    def column(vendor: str, compared: Any) -> atlas.Column:
        wrong = ("rax",) if compared == "wrong" else ()
        verdict = Measured("emulated", compared=compared, wrong=wrong)
        kernel = Kernel(vendor, "6.1.0", "", "", "", "", "", "", 1, 1)
        return atlas.Column(kernel, {MOV: verdict, FLD: verdict})

    both = [column("svm", "wrong"), column("vmx", "same")]
    atlas.settle(both)
    assert both[0].verdicts[MOV].compared == "no"
    alone = [column("svm", "wrong"), column("vmx", "wrong")]
    atlas.settle(alone)
    assert alone[0].verdicts[MOV].wrong == ("rax",)


def test_a_killer_is_found_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine ends at one form: that one is named, the others are asked, and the journal knows both."""
    probes = [Probe(form, "stale") for form in (MOV, FLD, form_of(b"\x90", "long64"))]
    boots: list[list[int]] = []

    def fake(_bench: str, _kernel: object, _probes: object, wanted: Any, _work: Path, **options: Any) -> sweep.Swept:
        boots.append(list(wanted))
        if 1 in wanted:
            raise sweep.SweepError("it stopped", list(wanted).index(1) if options.get("step") else 0)
        return sweep.Swept("6.1.0", "", "", "", "", "", 1.0, 1.0, "", {}, {n: raw() for n in wanted})

    monkeypatch.setattr(sweep, "_boot", fake)
    said: list[str] = []
    kernel = kernels.Kernel("6.1.0-1-cloud-amd64", tmp_path)
    swept = sweep.sweep("svm", kernel, probes, tmp_path, say=said.append)
    assert swept.killers == (1,)
    assert set(swept.raw) == {0, 2}
    assert "d9 03" in said[0]
    done = len(boots)
    assert sweep.sweep("svm", kernel, probes, tmp_path).raw == swept.raw
    assert len(boots) == done
    ((bench, known),) = sweep.journals(tmp_path, probes)
    assert (bench, known.killers) == ("svm", (1,))


def test_every_disagreement_with_the_table_is_explained() -> None:
    """What was measured is what handlers.csv says, but where lab.crosscheck has the reason."""
    known = Atlas(atlas.ATLAS.read_bytes())
    left = [
        one for one in crosscheck.disagreements(known, crosscheck.from_handlers) if crosscheck.reason_of(one) is None
    ]
    assert left == []


OTHER_TABLE = Path(__file__).parents[3] / "shared" / "facts" / "kvm-emulator-opcodes.csv"


@pytest.mark.skipif(not OTHER_TABLE.exists(), reason="the other table of opcodes is not here")
def test_every_disagreement_with_another_table_is_explained() -> None:
    """The same for a table that others read from the source."""
    known = Atlas(atlas.ATLAS.read_bytes())
    table = crosscheck.from_csv(OTHER_TABLE)
    assert [one for one in crosscheck.disagreements(known, table) if crosscheck.reason_of(one) is None] == []


@pytest.mark.lab
@pytest.mark.parametrize("series", SAMPLED)
def test_measured_again(series: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One form in sixty, asked anew of a kernel that is booted for it, comes out as the atlas has it."""
    if "KVMWHY_LAB" not in os.environ:
        pytest.skip("KVMWHY_LAB is not set")
    if (lacks := benches.missing("svm")) or shutil.which("qemu-system-x86_64") is None:
        missing("lab", f"no {', '.join(lacks) or 'qemu-system-x86_64'}")
    try:
        kernels.choose(work_directory(), [series])
    except FileNotFoundError as error:
        pytest.skip(str(error))
    status = atlas.main(["sample", "svm", "--kernel", series, "--every", str(EVERY)])
    assert status == 0, capsys.readouterr()
