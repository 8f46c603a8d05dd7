"""What an optimizer holds and remembers: shown, saved and loaded."""
