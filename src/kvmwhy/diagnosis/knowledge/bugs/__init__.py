"""Known bugs, one module for each that made them."""
