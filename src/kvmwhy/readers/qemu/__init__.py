"""What QEMU and qemu-kvm print when KVM gives up, of every age."""
