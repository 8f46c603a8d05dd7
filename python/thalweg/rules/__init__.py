"""The rules, a file each: the optimizer with its formula and defaults, and the function."""
