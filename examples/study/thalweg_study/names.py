"""The names of the claims, known without what the claims import."""

from __future__ import annotations

SUMMARIES = {
    "equivalence": "L2 and weight decay: one for SGD, two with momentum or Adam",
    "heat-maps": "test error over learning rate and decay: tuned apart or not",
    "generalisation": "Adam + L2, AdamW and SGDW at their best, over many seeds",
    "schedules": "fixed, step, cosine, restarts, one cycle: what is fast",
    "normalized-decay": "whether the best decay moves with the training budget",
    "amsgrad": "where Adam fails and AMSGrad does not; what it gains on data",
}
"""What each is about in a line, in the order of the report."""
