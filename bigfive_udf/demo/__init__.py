"""What `make demo` needs beside the jobs: a corpus of invented authors, a model, and a look at the result."""
