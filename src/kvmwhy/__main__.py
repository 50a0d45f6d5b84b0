"""``python -m kvmwhy``."""

from kvmwhy.cli.main import main

main()
