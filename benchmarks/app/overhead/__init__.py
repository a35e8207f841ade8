"""The app of the round benchmarks: it does no work."""
