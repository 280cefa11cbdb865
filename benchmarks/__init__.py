"""Speed and fidelity against other ways to do the same, measured in one run."""
