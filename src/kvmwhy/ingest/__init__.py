"""From the bytes people paste to the lines of one writer: archives, encodings, mail, prefixes, wrapped lines."""
