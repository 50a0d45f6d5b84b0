"""A command run under kvmwhy: it keeps its own process, and a helper beside it follows what it does."""
