"""How rows become a table: the corpus's partitions, staging, publishing, records."""
