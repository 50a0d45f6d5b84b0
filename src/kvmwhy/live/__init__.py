"""Evidence from a host that is alive: VMMs by PID, QEMU's monitor, tracefs, and what the host itself says.

Nothing here stops, resumes or changes a guest, and nothing of another process is believed: its
mappings, its memory and its command line are read within bounds and checked like a file from a stranger.
"""
