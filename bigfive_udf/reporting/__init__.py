"""The report of a table: what was counted, what became of it since a reference, and the page that says so."""
