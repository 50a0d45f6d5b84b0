"""kvmwhy in a reader's browser: a page into which a log is dropped, and that sends nothing anywhere."""
