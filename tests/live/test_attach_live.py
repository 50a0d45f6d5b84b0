"""Pages of VMMs that are alive: found by PID, read whole, and told apart from those that run on."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from pathlib import Path

import pytest

from kvmwhy.live import process as processes
from kvmwhy.live.errors import GoneError
from kvmwhy.live.host import host_facts
from kvmwhy.live.process import all_vmms, process_of, vcpu_mappings
from kvmwhy.live.process_memory import Memory
from kvmwhy.live.staleness import Watched, judge
from kvmwhy.live.vcpus import look
from kvmwhy.machine import Guest, KvmMachine
from kvmwhy.record import Host
from watching import Held


@pytest.mark.live
def test_every_vcpu_of_a_foreign_vmm(vmm: Path) -> None:
    """Two VMs with three vCPUs each, all failed: six pages, each an internal error, none of them running."""
    with Held(vmm, "prot32", vms=2, vcpus=3) as held:
        process = next(found for found in all_vmms().vmms if found.pid == held.pid)
        looks = look(process, host_facts())
    assert sorted(one.vcpu for one in looks) == [0, 0, 1, 1, 2, 2]
    assert all(one.failure.kind == "internal-error" and one.holds_a_failure for one in looks)
    assert {one.motion.state for one in looks} == {"stopped"}
    assert all(one.failure.host.kernel == os.uname().release for one in looks)


@pytest.mark.live
@pytest.mark.usefixtures("vmm")
def test_a_vcpu_that_runs_on_is_no_failure() -> None:
    """A guest that loops holds no failure; one that failed once and now loops in its guest is not called stopped."""
    with KvmMachine() as machine:
        guest = Guest("long64", bytes.fromhex("ebfe"))
        vcpu = guest.load(machine)
        running = threading.Thread(target=vcpu.run, args=(20.0,))
        running.start()
        try:
            (one,) = [o for o in look(_self(), Host()) if o.vcpu == vcpu.id]
            assert not one.holds_a_failure
            assert one.motion.state != "stopped"
        finally:
            vcpu.kick()
            running.join()


def _self() -> processes.Vmm:
    return processes.vmm(os.getpid())


def test_what_repeated_looks_mean() -> None:
    """A page that changed, or a thread inside KVM_RUN: the words are stale. Nothing of both: they count."""
    nothing = Watched(frozenset(), frozenset(), 0)
    assert judge(0, 4096, nothing).state == "stopped"
    assert judge(0, 4096, nothing._replace(changed=frozenset({4096}))).state == "running"
    assert judge(0, 4096, nothing._replace(changed=frozenset({8192}))).state == "stopped"
    assert judge(0, 4096, nothing._replace(inside=frozenset({0}))).state == "running"
    assert judge(0, 4096, nothing._replace(inside=frozenset({1}))).state == "stopped"
    assert judge(0, 4096, nothing._replace(busy=2)).state == "unclear"


def test_a_file_with_the_name_of_a_vcpu_is_none(tmp_path: Path) -> None:
    """A process may map a file of any name: the kernel's own names do not begin with a slash."""
    path = tmp_path / "x anon_inode:kvm-vcpu:0"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 4096):
        assert b"kvm-vcpu:0" in Path("/proc/self/maps").read_bytes()
        assert vcpu_mappings(os.getpid()) == ()


def test_a_page_is_read_until_two_reads_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that never stands still is said to be unsettled; one that stands still takes two reads."""
    buffer = mmap.mmap(-1, 8192)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    with Memory(os.getpid()) as memory:
        still = memory.snapshot(address)
        assert (still.settled, still.reads) == (True, 2)
        pages = iter(range(1 << 30))
        monkeypatch.setattr(memory, "page", lambda _address: next(pages).to_bytes(4096, "little"))
        assert not memory.snapshot(address).settled


def test_a_process_that_is_gone() -> None:
    """Its number leads to one sentence, whatever is asked of it."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    memory = Memory(os.getpid())
    os.waitpid(pid, 0)
    memory.close()
    for ask in (processes.vmm, vcpu_mappings, Memory):
        with pytest.raises(GoneError, match=f"no process {pid}"):
            ask(pid)
    assert process_of(pid) is None
    assert process_of(os.getpid()) == os.getpid()
