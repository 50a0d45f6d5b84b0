"""What KVM conveys on s390x."""
