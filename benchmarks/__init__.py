"""Benchmarks: speed and fidelity against other ways to score and to train, measured in one run."""
