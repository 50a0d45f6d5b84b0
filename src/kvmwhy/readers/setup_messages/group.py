"""Messages that one refusal prints after each other, put together; the same refusal again and again, counted."""

from __future__ import annotations

from typing import Final, NamedTuple

from kvmwhy.readers.setup_messages.message import Message

# Lines between two messages of one refusal: QEMU's usage text, a wrapper's own lines, JSON around each.
_NEAR: Final = 12
# "registers" and "SEV" say less than an ioctl's name.
_WHERE: Final = frozenset({"cpu", "vcpu"})  # the same refusal on another CPU
_VAGUE: Final = frozenset({"registers", "get-registers", "vcpu-init", "SEV", "KVM_TDX"})


class Group(NamedTuple):
    """A refusal: the message that says most, and what those beside it add."""

    message: Message
    line: int
    last_line: int
    times: int
    details: tuple[str, ...]  # of the messages that only follow


def grouped(text: str, messages: list[Message], first_line: int) -> list[Group]:
    """One group for each refusal, in the order of the text."""
    groups: list[Group] = []
    line, counted, near = first_line, 0, -1
    for message in messages:
        line += text.count("\n", counted, message.at)
        counted = message.at
        last = groups[-1] if groups else None
        if last is not None and line - near <= _NEAR and (joined := _join(last, message, line)):
            groups[-1] = joined
        elif last is not None and _key(last.message) == _key(message) and not message.follows:
            groups[-1] = last._replace(times=last.times + 1, last_line=line)
        else:
            groups.append(Group(message, line, line, 1, (message.detail,) if message.follows else ()))
        near = line
    return groups


def _key(message: Message) -> tuple[object, ...]:
    return (message.call, message.errno, *sorted(_told(message).items(), key=str))


def _told(message: Message) -> dict[str, int | str]:
    return {name: value for name, value in message.fields.items() if name not in _WHERE}


def _join(group: Group, message: Message, line: int) -> Group | None:
    """The group with the message in it, if both can be of one refusal."""
    mine = group.message
    if message.follows:
        details = group.details if message.detail in group.details else (*group.details, message.detail)
        return group._replace(message=_with(mine, message), details=details)
    if mine.follows:  # what follows stands first: two streams, or a later line has the name
        return group._replace(message=_with(message, mine))
    if _key(mine) == _key(message):
        once = line == group.line or message.detail == "enable-failed"  # on each CPU
        return group if once else group._replace(times=group.times + 1, last_line=line)
    if _several_msrs(mine, message):
        msrs = f"{mine.fields.get('msrs') or hex(int(mine.fields['msr']))} {message.fields['msr']:#x}"
        return group._replace(message=mine._replace(fields={**mine.fields, "msrs": msrs}))
    if _says_less(message, mine) and not (mine.call in _VAGUE and message.call not in _VAGUE):
        return group._replace(message=_with(mine, message))
    if _says_less(mine, message):
        return group._replace(message=_with(message, mine))
    return None


def _several_msrs(mine: Message, message: Message) -> bool:
    """A VMM that leaves out each MSR that KVM refuses, and goes on."""
    return mine.call == message.call and set(message.fields) == {"msr"} and "msr" in mine.fields and not message.errno


def _with(main: Message, other: Message) -> Message:
    """``main``, and from ``other`` what it does not have.

    QEMU's SEV code returns -1 for any reason, which "failed to initialize kvm" then calls EPERM.
    """
    named = {name: value for name, value in other.fields.items() if name in {"capability", "module", "fwx"}}
    if not main.fields.get("fwx") and not main.fields.get("fw") and named.get("fwx"):
        main = main._replace(fields={name: value for name, value in main.fields.items() if name != "fw"})
    return main._replace(
        errno=main.errno or (None if main.detail.startswith("sev-") else other.errno),
        vmm=main.vmm or other.vmm,
        arch=main.arch or other.arch,
        fields={**named, **main.fields},
    )


def _says_less(message: Message, than: Message) -> bool:
    """``VcpuCreate(VcpuFd(Error(17)))`` beside KVM_CREATE_VCPU: the same call, or a vague one, and no other values."""
    same_errno = message.errno is None or than.errno in {None, message.errno}
    vague = message.call in _VAGUE or message.call == than.call
    wrapped = message.errno is not None and message.errno == than.errno and not _told(message)
    return same_errno and (vague or wrapped) and _told(message).items() <= than.fields.items()
