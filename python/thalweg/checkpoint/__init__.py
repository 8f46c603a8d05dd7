"""Checkpoints: files that hold an optimizer with its parameters, and directories of them."""

from thalweg.checkpoint.files import Checkpoint, read_checkpoint
from thalweg.checkpoint.manager import CheckpointManager

__all__ = ["Checkpoint", "CheckpointManager", "read_checkpoint"]
