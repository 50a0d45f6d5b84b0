"""What a riscv64 CPU does: where its loads and stores point, and which of them KVM can carry out."""
