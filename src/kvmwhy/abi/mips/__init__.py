"""What KVM conveys on mips64."""
