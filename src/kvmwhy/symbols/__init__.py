"""Addresses of a guest's code as functions, files and lines, by the ELF that it was built as.

The file is another's: whatever is wrong with it ends in an error with a sentence, or in an address without a name.
"""

from __future__ import annotations
