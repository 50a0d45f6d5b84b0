"""The x86 part of a machine: a vCPU's state, what it starts with, and guests made of bytes of code."""
