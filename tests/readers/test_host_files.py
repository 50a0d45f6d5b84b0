"""The files of a bundle tell of the host that the guest logs beside them ran on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmwhy.ingest.bundles import Member, domain_of, in_bundle, member_of
from kvmwhy.readers.host_files import Beside, fill, read
from kvmwhy.record import Failure, Host, Source

# As they are printed: uname(1), /proc/cpuinfo of x86 (arch/x86/kernel/cpu/proc.c), dmidecode(8), lsmod(8), virsh(1).
FILES = {
    "sos_commands/kernel/uname_-a": "Linux pve1 6.8.12-4-pve #1 SMP PREEMPT_DYNAMIC PMX 6.8.12-4 x86_64 GNU/Linux\n",
    "proc/cpuinfo": (
        "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel name\t: AMD EPYC 7763 64-Core Processor\n"
        "flags\t\t: fpu vme de pse tsc msr hypervisor lahf_lm svm\n"
    ),
    "dmidecode": (
        "# dmidecode 3.3\n\nHandle 0x0001, DMI type 1, 27 bytes\nSystem Information\n\tManufacturer: VMware, Inc.\n"
        "\tProduct Name: VMware7,1\n\tVersion: None\n"
    ),
    "lsmod": "Module                  Size  Used by\nvboxdrv               565248  2 vboxnetadp,vboxnetflt\n",
    "sys/module/kvm_amd/parameters/nested": "1\n",
    "etc/libvirt/qemu/web.xml": (
        "<domain type='kvm'>\n  <name>web</name>\n  <memory unit='KiB'>4194304</memory>\n  <os>\n"
        "    <type arch='x86_64' machine='pc-q35-8.2'>hvm</type>\n  </os>\n"
        "  <cpu mode='host-passthrough' check='none'/>\n"
        "  <devices>\n    <hostdev mode='subsystem' type='pci' managed='yes'/>\n  </devices>\n</domain>\n"
    ),
}


def bundle(prefix: str) -> Beside:
    beside = Beside()
    for path, text in FILES.items():
        data = text.encode()
        assert b"".join(beside.watch(prefix + path, iter((data[:9], data[9:])))) == data
    return beside


@pytest.mark.parametrize("prefix", ["", "sosreport-pve1-2026/", "x.tar!/sosreport-pve1/"])
def test_a_guest_log_gets_its_host(prefix: str) -> None:
    """The kernel, the CPU, the outer hypervisor, the parameters; and of the domains only the log's own."""
    log = Failure(kind="entry-failure", source=Source(path=prefix + "var/log/libvirt/qemu/web.log"))
    host = bundle(prefix).with_host(log).host
    assert host.kernel == "6.8.12-4-pve"
    assert host.cpu_name == "AMD EPYC 7763 64-Core Processor"
    assert (host.vendor, host.dmi) == ("svm", "VMware, Inc. VMware7,1")
    assert host.hypervisor == "VMware"
    assert host.rivals == ("vboxdrv",)
    assert host.parameters == {"kvm_amd.nested": "1"}
    assert (host.ram_bytes, host.machine, host.cpu_model) == (4 << 30, "pc-q35-8.2", "host")
    assert host.devices == ("vfio-pci",)
    other = Failure(kind="entry-failure", source=Source(path=prefix + "var/log/libvirt/qemu/db.log"))
    assert bundle(prefix).with_host(other).host.ram_bytes is None


def test_the_failures_own_words_stand_above() -> None:
    """A log that names its kernel keeps it, whatever lies beside it; a log outside of the bundle gets nothing."""
    own = Failure(kind="other", source=Source(path="a/var/log/libvirt/qemu/web.log"), host=Host(kernel="5.4.0"))
    assert bundle("a/").with_host(own).host.kernel == "5.4.0"
    outside = Failure(kind="other", source=Source(path="b/x.log"))
    assert bundle("a/").with_host(outside) == outside


@pytest.mark.parametrize(
    ("note", "host"),
    [
        ("6.8.12-4-pve\n", Host(kernel="6.8.12-4-pve")),
        ("none\n", Host(is_physical=True)),
        ("oracle\n", Host(hypervisor="VirtualBox")),
        ("5.10.0-46-amd64\nmicrosoft\n", Host(kernel="5.10.0-46-amd64", hypervisor="Hyper-V")),
        (FILES["sos_commands/kernel/uname_-a"], Host(kernel="6.8.12-4-pve")),
        ("It was none of these: kvm, xen.\n", Host()),
        ("", Host()),
    ],
)
def test_a_note_answers_what_is_asked_for(note: str, host: Host) -> None:
    """The bare answers of ``uname -r`` and ``systemd-detect-virt``, and those files as they are; prose is none."""
    beside = Beside()
    beside.note(note.encode())
    assert beside.with_host(Failure(kind="other", source=Source(path="vm.log"))).host == host


def test_notes_of_two_hosts_say_nothing() -> None:
    """Whose log it is cannot be told; and what the log itself says stands above."""
    beside = Beside()
    beside.note(b"6.8.12-4-pve")
    own = Failure(kind="other", source=Source(), host=Host(kernel="5.4.0"))
    assert beside.with_host(own).host.kernel == "5.4.0"
    beside.note(b"6.1.0-56-amd64")
    assert beside.with_host(Failure(kind="other", source=Source())).host == Host()


def test_paths_that_tell_of_no_host() -> None:
    """Logs are no such files, and a domain is told by its name."""
    assert member_of("var/log/libvirt/qemu/web.log") is None
    assert member_of("x/my-uname-notes.txt") is None
    assert member_of("a/proc/cpuinfo") == Member("a/", "cpuinfo", "proc/cpuinfo")
    assert domain_of("a/var/log/libvirt/qemu/web.log.1") == "web"
    assert in_bundle("a/b/x", frozenset(("a/", "a/b/", "c/"))) == "a/b/"


@given(
    st.sampled_from(["uname", "cpuinfo", "dmidecode", "parameter", "domain", "node", "virt"]), st.binary(max_size=300)
)
def test_any_bytes_are_read(role: str, data: bytes) -> None:
    """A hostile file says nothing, and never raises."""
    path = {"parameter": "sys/module/kvm/parameters/x", "domain": "etc/libvirt/qemu/a.xml"}.get(role, role)
    assert isinstance(fill(Host(), read(Member("", role, path), data)), Host)  # type: ignore[arg-type]
