"""The command line: thin commands; what they need is imported inside them."""
