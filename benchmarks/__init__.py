"""Benchmarks, run from a checkout and not installed: ``asv`` for speed and memory, ``quality`` for what methods are worth."""
