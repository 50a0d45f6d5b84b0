"""What KVM conveys on POWER."""
