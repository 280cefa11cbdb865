"""The corpus: where its files or its table are, what they hold, and their rows as a DataFrame."""
