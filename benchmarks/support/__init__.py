"""What benchmarks share: texts and checkpoints, what is measured, processes, rates, flags and files of results."""
