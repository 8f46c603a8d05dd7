"""Data of an optimizer: live views of its state, state dicts, loading, copies and pickles."""
