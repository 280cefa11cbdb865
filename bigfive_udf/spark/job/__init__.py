"""The score job: a plan and its cost, and carrying it out step by step."""
