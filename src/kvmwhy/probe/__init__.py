"""Ask a KVM's instruction emulator about encodings, one by one, and say what it made of each."""
