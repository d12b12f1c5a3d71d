"""Benchmarks: how transcriptd does beside the floors, in one run. `python -m tests.bench`."""
