"""Parameters and state in memory-mapped files."""
