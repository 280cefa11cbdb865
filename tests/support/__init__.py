"""What tests share: models, corpora, labelled tables, jobs as processes, and oracles."""
