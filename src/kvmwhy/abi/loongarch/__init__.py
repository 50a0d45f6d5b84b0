"""What KVM conveys on loongarch64."""
