"""What KVM conveys on riscv64."""
