"""The decoder interface on capstone, where iced-x86 is not installed.

Capstone reads registers, addresses and lengths; names, sizes and accesses are put right from tables of ours, as it is
behind the manuals there. ``scan`` reads the bytes, ``stand_in`` and ``repair`` decide what capstone is asked, ``parse``
asks it, ``names`` and ``sizes`` put right what it answers, and ``memory``, ``text`` and ``form`` say it.
"""
