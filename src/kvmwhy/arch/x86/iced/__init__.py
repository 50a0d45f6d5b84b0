"""The decoder interface on iced-x86."""
