"""Typed settings: a module for each job, read from YAML, overridden by `--set`, validated before anything starts."""
