"""Checkpoints: an optimizer with its parameters in one file, and directories of such files."""

from thalweg.checkpoint.files import Checkpoint, read_checkpoint
from thalweg.checkpoint.manager import CheckpointManager

__all__ = ["Checkpoint", "CheckpointManager", "read_checkpoint"]
