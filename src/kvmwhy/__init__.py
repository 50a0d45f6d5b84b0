"""kvmwhy tells you why KVM gave up on a guest, and what to do about it."""

__version__ = "0.1.0"
