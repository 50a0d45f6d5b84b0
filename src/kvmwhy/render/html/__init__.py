"""Failures as one page that needs nothing else: no fonts, nothing from outside, and no script to be read."""
