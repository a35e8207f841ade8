"""What this lab's operator sees: metrics, health, and log lines with a name and fields."""
