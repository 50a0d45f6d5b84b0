"""What the kernel writes: pure bytes ↔ values, both directions, no I/O."""
