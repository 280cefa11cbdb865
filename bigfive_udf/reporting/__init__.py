"""The report of a table: its counts, their drift since a reference, and the page that shows both."""
