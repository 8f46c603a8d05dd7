"""Checkpoints: an optimizer with its parameters in one file, and directories of such files."""

from thalweg.checkpoint.files import Checkpoint, read_checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]
