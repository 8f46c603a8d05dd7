"""The study: what decoupled weight decay does, seen on real data, with NumPy models and thalweg.

``thalweg-study`` runs it. It reproduces what the sources of AdamW claim and judges each claim by a
stated rule. Reading order: ``task`` (a run), ``training`` (the usual kind of it), ``claim`` (the
parts of a claim), then any module of ``claims``; ``lab`` spreads tasks over processes and keeps
finished runs, ``report`` shows everything on one page.
"""
