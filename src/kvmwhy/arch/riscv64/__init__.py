"""riscv64: where its loads and stores point."""
