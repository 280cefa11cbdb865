"""What happens in the Python workers, and how the driver hears of it."""
