"""Compression of bodies: which coding, which answers, and the codings themselves; no I/O."""
