"""Files and directories written completely or not at all, with names valid on every system."""
