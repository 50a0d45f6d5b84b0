"""arm64: which instructions the CPU describes to a hypervisor."""
