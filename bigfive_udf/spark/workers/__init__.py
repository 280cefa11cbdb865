"""The code that runs in Python workers, and how it reports to the driver."""
