"""The study: what decoupled weight decay does, seen on real data, with NumPy models and thalweg.

``thalweg-study`` runs it. It reproduces what the sources of AdamW claim and judges each claim by a
stated rule. To read it: ``task`` (what is run), ``training`` (the usual kind of it), ``claim``
(what a claim offers), then any module of ``claims``; ``lab`` spreads tasks over processes and keeps
what is finished, ``report`` shows everything on one page.
"""
