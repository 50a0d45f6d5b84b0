"""Pages of VMMs that are alive: found by PID, read whole, and told apart from those that run on."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from pathlib import Path

import pytest

from kvmwhy.abi.kvm_run import encode_page
from kvmwhy.live import process as processes
from kvmwhy.live.errors import GoneError
from kvmwhy.live.host import host_facts
from kvmwhy.live.process import all_vmms, process_of, vcpu_mappings
from kvmwhy.live.process_memory import Memory
from kvmwhy.live.staleness import Motion, Watched, judge, may_be_reset, with_status
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


FAILED = encode_page(17, {"suberror": 1, "ndata": 0, "data": (0,) * 16})
FAILED_ELSEWHERE = encode_page(17, {"suberror": 3, "ndata": 0, "data": (0,) * 16})
TRIPLE_FAULT, IO = encode_page(8), encode_page(2, {"direction": 1, "size": 1, "port": 0x80, "count": 1})
IN_KVM_RUN = encode_page(0, stale=IO[32:288])
CLEARING, OLD = "6.12.9", "5.10.0-23-amd64"


def meant(*pages: bytes, is_inside: bool = False, busy: int = 0, release: str = CLEARING) -> str:
    return judge(Watched(pages, is_inside, busy, 0.05), release=release).state


def test_what_repeated_looks_mean() -> None:
    """Whatever shows that a vCPU runs on has a veto: its page, a thread inside KVM_RUN, or its VMM going on."""
    assert meant(FAILED, FAILED) == "stopped"
    assert meant(IN_KVM_RUN, FAILED, FAILED) == "stopped"
    assert meant(FAILED, IN_KVM_RUN, IO) == "running"
    assert meant(FAILED, FAILED, is_inside=True) == "running"
    assert meant(FAILED, FAILED_ELSEWHERE) == "repeating"
    assert meant(FAILED, IN_KVM_RUN, FAILED) == "repeating"
    assert meant(TRIPLE_FAULT, IN_KVM_RUN, TRIPLE_FAULT) == "running"  # reset again and again
    assert meant(TRIPLE_FAULT, TRIPLE_FAULT) == "stopped"
    assert meant(IN_KVM_RUN, IN_KVM_RUN, busy=1) == "running"
    assert meant(IN_KVM_RUN, IN_KVM_RUN, is_inside=True) == "running"


def test_a_triple_fault_is_given_time() -> None:
    """A VMM that resets its guest does so within a second; one that was seen to do so needs no more looks."""
    assert may_be_reset((IN_KVM_RUN, TRIPLE_FAULT))
    assert may_be_reset((TRIPLE_FAULT,) * 5)
    assert not may_be_reset((TRIPLE_FAULT,) * 200)
    assert not may_be_reset((IN_KVM_RUN, *(TRIPLE_FAULT,) * 200))
    assert not may_be_reset((TRIPLE_FAULT, IN_KVM_RUN, TRIPLE_FAULT))
    assert not may_be_reset((TRIPLE_FAULT, IN_KVM_RUN))
    assert not may_be_reset((FAILED,) * 5)


def test_busy_threads_count_where_the_page_may_be_stale() -> None:
    """A kernel that clears the exit reason at KVM_RUN leaves no doubt; on an older one a busy thread is one."""
    assert meant(FAILED, FAILED, busy=2) == "stopped"
    assert meant(FAILED, FAILED, busy=2, release=OLD) == "unclear"
    assert meant(FAILED, FAILED, release=OLD) == "stopped"


@pytest.mark.parametrize(
    "status", ["running", "paused", "prelaunch", "postmigrate", "inmigrate", "io-error", "suspended"]
)
def test_qemu_has_the_last_word(status: str) -> None:
    """A guest that QEMU runs, or has paused for another reason, has gone on after what its page shows."""
    stopped, repeating = Motion("stopped", ""), Motion("repeating", "")
    assert with_status(stopped, status, exit_reason=17).is_over
    assert with_status(repeating, status, exit_reason=8).is_over
    assert with_status(repeating, status, exit_reason=17) == repeating  # in user mode QEMU goes on each time
    assert with_status(stopped, "internal-error", exit_reason=17) == stopped
    assert with_status(stopped, "shutdown", exit_reason=8) == stopped


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
