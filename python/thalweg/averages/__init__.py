"""Arrays that mirror parameters: averages of them, and sums of their gradients."""
