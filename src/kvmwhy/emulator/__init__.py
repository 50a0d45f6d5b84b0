"""What KVM's instruction emulator can do, per kernel."""
