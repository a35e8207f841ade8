"""Benchmarks: each prints a JSON line that compares ours with a named peer, or a physical limit, in the same run."""
