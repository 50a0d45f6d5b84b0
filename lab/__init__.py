"""The lab: the same guests on real KVM of many releases and both vendors, and what each reported."""
