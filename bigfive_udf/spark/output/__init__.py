"""The score table as Spark sees it: its stored rows, and its definition and views in a catalog."""
