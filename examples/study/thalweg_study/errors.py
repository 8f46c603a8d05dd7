"""The one way the study gives up."""

from __future__ import annotations


class StudyError(Exception):
    """The study cannot begin or continue; the message is for the user. Finished runs are kept."""
