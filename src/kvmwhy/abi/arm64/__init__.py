"""What KVM conveys on arm64."""
