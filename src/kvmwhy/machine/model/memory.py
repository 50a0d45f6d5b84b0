"""Guest memory that counts who else wrote to it: translated code has to be forgotten then."""

from __future__ import annotations

from kvmwhy.machine.memory import Backing, Memory


class SharedMemory(Memory):
    """The slots of one VM, for all its vCPUs."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0  # by the VMM, not by the guest

    @property
    def backings(self) -> tuple[Backing, ...]:
        return tuple(self.backing(slot) for slot in self.slots)

    def written(self) -> None:
        self.writes += 1
