"""From a labelled table to an artifact and its evaluation. Knows nothing of Spark."""
