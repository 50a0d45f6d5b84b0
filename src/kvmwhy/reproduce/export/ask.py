"""How a program that stands alone calls KVM's ioctls: it says which one was refused, and ends."""

from __future__ import annotations

from typing import Final

_ASK: Final = r"""static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(@STATUS@);
}

static int ask(int fd, unsigned long request, void *argument, const char *name)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		die(name);
	return result;
}"""


def ask(status: str) -> str:
    """``die()`` and ``ask()`` in C, with the exit status of a program that cannot run."""
    return _ASK.replace("@STATUS@", status)
