"""Files and directories that are whole or not there, under names that every system takes."""
