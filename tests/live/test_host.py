"""What this host is: from /proc and /sys, or from a made-up one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kvmwhy.live import host
from kvmwhy.live.doctor import ask_device, check_up, of_module
from kvmwhy.live.doctor.management import of_iommu, of_libvirt
from kvmwhy.live.errors import CaptureError, NoTracefsError
from kvmwhy.live.host import Module, cpu_info, host_facts, modules, vendor_of
from kvmwhy.live.kvm_stats import Reading, Total, read_counts
from kvmwhy.live.metrics import Metrics, Server, write_file
from kvmwhy.live.tracefs import find_root

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz
stepping\t: 4
microcode\t: 0x2006e05
flags\t\t: fpu vme vmx hypervisor

processor\t: 1
vendor_id\t: AuthenticAMD
"""


def test_the_cpu(tmp_path: Path) -> None:
    """The first CPU's words; a file that says nothing leaves nothing out of the ordinary."""
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    cpu = cpu_info(str(path))
    assert (cpu.vendor_id, cpu.signature, cpu.microcode, cpu.hypervisor) == (
        "GenuineIntel",
        "6-85-4",
        "0x2006e05",
        True,
    )
    assert cpu_info(str(tmp_path / "none")).flags == frozenset()


def sysfs(root: Path, **parameters: dict[str, str]) -> str:
    for module, values in parameters.items():
        (root / module / "parameters").mkdir(parents=True)
        for name, value in values.items():
            (root / module / "parameters" / name).write_text(value + "\n")
    return str(root)


def test_modules_and_vendor(tmp_path: Path) -> None:
    """One vendor's module names the vendor; two name none."""
    root = sysfs(tmp_path / "a", kvm={"ignore_msrs": "N"}, kvm_intel={"ept": "Y"})
    assert [m.name for m in modules(root)] == ["kvm", "kvm_intel"]
    assert vendor_of(modules(root))[0] == "vmx"
    root = sysfs(tmp_path / "b", kvm_intel={}, kvm_amd={})
    assert vendor_of(modules(root)) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("unrestricted_guest", "N", "real mode"),
        ("dump_invalid_vmcs", "N", "VMCS in the kernel's log"),
        ("ept", "0", "shadow paging"),
        ("nested", "Y", "hypervisors themselves"),
        ("ept", "Y", None),
        ("nested", "N", None),
        ("unheard_of", "N", None),
    ],
)
def test_what_parameters_mean(name: str, value: str, said: str | None) -> None:
    """Only a value that bears on failures makes a finding, with what to change where that can be said."""
    found = list(of_module(Module("kvm_intel", None, {name: value})))
    assert [said in f.text for f in found if said] == ([True] if said else [])
    assert bool(found) == bool(said)


def test_facts_of_a_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A live record has the kernel, the vendor, and the parameters of KVM's module that bear on a failure."""
    root = sysfs(tmp_path, kvm_intel={"unrestricted_guest": "N", "ept": "Y", "nested": "Y"}, vboxdrv={})
    real_modules, real_rivals = host.modules, host.rivals
    monkeypatch.setattr(host, "modules", lambda: real_modules(root))
    monkeypatch.setattr(host, "rivals", lambda: real_rivals(root))
    found = host_facts()
    assert (found.kernel, found.vendor) == (os.uname().release, "vmx")
    assert found.rivals == ("vboxdrv",)
    assert found.parameters == {"kvm_intel.unrestricted_guest": "N", "kvm_intel.ept": "Y", "kvm_intel.nested": "Y"}


def test_devices_that_are_no_kvm(tmp_path: Path) -> None:
    """A missing device and a file in its place are problems in a sentence, not errors."""
    assert "no such file" in (ask_device(str(tmp_path / "kvm")).problem or "")
    (tmp_path / "file").touch()
    assert "does not answer as KVM" in (ask_device(str(tmp_path / "file")).problem or "")


@pytest.mark.parametrize(
    ("mode", "groups", "fix"),
    [
        (0o660, [], "usermod -aG"),
        (0o600, [], "no group may open it"),
        (0o640, [], "no group may open it"),
        (0o660, [0], "access list"),
    ],
)
def test_what_would_open_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, groups: list[int], fix: str
) -> None:
    """Joining a group is advised only where a group may open it."""
    path = tmp_path / "kvm"
    path.touch()
    path.chmod(mode)
    monkeypatch.setattr(os, "getgroups", lambda: [path.stat().st_gid] if groups else [])

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert fix in (ask_device(str(path)).fix or "")


def test_logs_iommu_and_extras(tmp_path: Path) -> None:
    """What is not there is not spoken of; vfio-pci without an IOMMU stands in the way."""
    assert list(of_libvirt(str(tmp_path / "none"), str(tmp_path / "none"))) == []
    (tmp_path / "web1.log").touch()
    (finding,) = of_libvirt(str(tmp_path))
    assert (finding.grade, "1 in" in finding.text) == ("good", True)
    assert list(of_iommu(str(tmp_path / "none"), str(tmp_path))) == []
    (tmp_path / "vfio_pci").mkdir()
    (finding,) = of_iommu(str(tmp_path / "none"), str(tmp_path))
    assert finding.grade == "bad"
    (tmp_path / "groups" / "0").mkdir(parents=True)
    (finding,) = of_iommu(str(tmp_path / "groups"), str(tmp_path))
    assert (finding.grade, "VFIO is loaded" in finding.text) == ("good", True)


def test_a_checkup_of_this_host() -> None:
    """Whatever this host is, it has a kernel, a CPU and findings; a tracefs that is not there is bad."""
    checkup = check_up("/nowhere")
    assert checkup.kernel == os.uname().release
    (finding,) = [f for f in checkup.findings if f.topic == "tracefs" and f.grade == "bad" and "watch" in f.text]
    assert "there is no directory /nowhere" in finding.text


def test_no_tracefs_is_said(tmp_path: Path) -> None:
    """With the command that mounts it."""
    with pytest.raises(NoTracefsError, match=f"mount -t tracefs nodev {tmp_path}"):
        find_root(str(tmp_path))


def test_metrics_are_replaced_at_once(tmp_path: Path) -> None:
    """A reader of the file sees a whole text; no other file is left beside it."""
    metrics, path = Metrics(), tmp_path / "kvmwhy.prom"
    metrics.count(kind="internal-error", suberror=1, silent=False, cause="emulator-no-handler", times=3)
    write_file(metrics, str(path))
    assert 'kvmwhy_failures_total{kind="internal-error",suberror="1",silent="false"} 3\n' in path.read_text()
    assert 'kvmwhy_causes_total{cause="emulator-no-handler"} 3\n' in path.read_text()
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CaptureError, match="no such file"):
        write_file(metrics, str(tmp_path / "nowhere" / "x"))


def test_every_series_has_help_and_type() -> None:
    """The text format of Prometheus: HELP and TYPE before the samples of each name."""
    lines = Metrics().text().splitlines()
    for sample in {line.split()[0].split("{")[0] for line in lines if not line.startswith("#")}:
        name = sample.removesuffix("_sum").removesuffix("_count")
        assert any(line.startswith(f"# HELP {name} ") for line in lines)
        assert any(line.startswith(f"# TYPE {name} ") for line in lines)


def test_a_port_that_is_taken() -> None:
    """One sentence with the address."""
    server = Server(Metrics(), "127.0.0.1", 0)
    with pytest.raises(CaptureError, match=f"127.0.0.1:{server.port}"):
        Server(Metrics(), "127.0.0.1", server.port)
    server.close()


def test_a_total_only_grows() -> None:
    """What was there before does not count; a VM that ends takes nothing away; its number may be another's later."""
    total = Total()
    for counts, expected in (
        ({"1-5": 7}, 0),
        ({"1-5": 9, "2-5": 3}, 5),
        ({"2-5": 3}, 5),
        ({"2-5": 1}, 6),
        ({}, 6),
        ({"2-5": 1}, 6),  # its monitor did not answer once
        ({"2-5": 4}, 9),
    ):
        total.add(counts)
        assert total.value == expected


def test_counts_of_debugfs(tmp_path: Path) -> None:
    """One directory for each VM, of the name that KVM gives it; else QEMUs are asked, and it is said why."""
    (tmp_path / "insn_emulation_fail").write_text("12\n")
    for name, count in (("4242-9", "5"), ("77-10", "7"), ("other", "9")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "insn_emulation_fail").write_text(count)
    assert read_counts(str(tmp_path)) == Reading({"4242-9": 5, "77-10": 7}, "debugfs")
    nothing = read_counts(str(tmp_path / "none"))
    assert nothing.source in {None, "qmp"}
    assert nothing.source or "no such file" in (nothing.why or "")
