"""What KVM of x86 writes: the words of VMX, SVM, TDX and PVM."""
