"""Averages of parameters and sums of their gradients, in one array per parameter."""
