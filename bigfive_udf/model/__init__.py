"""The model side: artifacts, tokenization, batching, forward passes. Knows nothing of Spark."""
