"""What running a case came to: the exits in their order, why it stopped, the vCPU afterwards.

``replay.c`` prints one Outcome per line; a model makes the same value, and ``compare`` sets them side
by side.
"""

from __future__ import annotations

import datetime as dt
import gzip
from pathlib import Path
from typing import Final, Literal

import msgspec

IO, HLT, MMIO, SHUTDOWN, FAIL_ENTRY, INTERNAL_ERROR = 2, 5, 6, 8, 9, 17

# exit: the last of exits ended it. timeout: KVM_RUN had to be interrupted. max-exits: cut off.
# error: KVM_RUN failed with an errno. refused: an ioctl before it did.
Stop = Literal["exit", "timeout", "max-exits", "error", "refused"]

# How much of the union each exit fills in; MMIO and IO are taken apart, others have nothing to say.
_PAYLOAD: Final = {0: 8, 1: 8, 4: 32, 9: 12, 10: 0, HLT: 0, SHUTDOWN: 0, 39: 24}


class Exit(msgspec.Struct, frozen=True, omit_defaults=True):
    """One exit. MMIO has ``gpa``, IO has ``port``; any other has the start of the union as ``payload``, in hex."""

    reason: int
    gpa: str | None = None
    port: int | None = None
    size: int = 0
    count: int = 0
    write: bool = False
    data: str = ""  # what the guest wrote, in hex
    payload: str = ""  # 168 bytes of struct kvm_run, from offset 32 on

    @property
    def words(self) -> tuple[int, ...]:
        """KVM_EXIT_INTERNAL_ERROR: suberror, and as many of data[] as ndata says."""
        if self.reason != INTERNAL_ERROR:
            return ()
        raw = bytes.fromhex(self.significant)
        return int.from_bytes(raw[:4], "little"), *(
            int.from_bytes(raw[i : i + 8], "little") for i in range(8, len(raw), 8)
        )

    @property
    def significant(self) -> str:
        """The payload without what this exit did not write, which is left over from earlier ones."""
        raw = self.payload
        if self.reason == INTERNAL_ERROR:
            ndata = int.from_bytes(bytes.fromhex(raw[8:16]), "little")
            return raw[: 16 + 16 * min(ndata, 16)]
        return raw[: 2 * _PAYLOAD.get(self.reason, len(raw) // 2)]

    def reduced(self) -> Exit:
        return msgspec.structs.replace(self, payload=self.significant)


class Failed(msgspec.Struct, frozen=True):
    """The ioctl that said no."""

    ioctl: str
    errno: int


class State(msgspec.Struct, frozen=True):
    """The vCPU when it was over; numbers in hex. After max-exits an instruction may be half done."""

    rip: str
    rflags: str
    rsp: str
    rax: str
    rcx: str
    rsi: str
    rdi: str
    cs: str
    cr2: str


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What KVM_GET_VCPU_EVENTS says is still to be delivered."""

    exception: int | None = None
    interrupt: int | None = None
    nmi: bool = False


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of it. The comparison of two is ``differences(a, b)`` of compare."""

    id: str
    exits: tuple[Exit, ...] = ()
    stop: Stop = "exit"
    failed: Failed | None = None
    state: State | None = None
    event: Event = Event()

    @property
    def last(self) -> Exit | None:
        return self.exits[-1] if self.exits else None


class Provenance(msgspec.Struct, frozen=True):
    """The first line of a results file: what these outcomes were measured on."""

    vendor: str  # svm or vmx; native: whatever this host is
    release: str
    version: str
    module: str
    module_args: str
    parameters: dict[str, str]  # of kvm and the vendor's module, as /sys shows them
    bench: str
    cpu: str
    date: str
    cases: int  # asked for
    outcomes: int  # that came back
    bundle: str  # SHA-256


def today() -> str:
    """The date of a Provenance."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def open_results(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def load(path: Path) -> tuple[Provenance, dict[str, Outcome]]:
    """A results file, compressed or not."""
    head, *lines = open_results(path).splitlines()
    outcomes = (msgspec.json.decode(line, type=Outcome) for line in lines)
    return msgspec.json.decode(head, type=Provenance), {outcome.id: outcome for outcome in outcomes}
