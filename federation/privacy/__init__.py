"""Differential privacy: what a job promises, the noise that keeps it, what it costs, and what a laboratory will spend.

No I/O and no clock. ``terms``: what the manifest says. ``sensitivity``: how far one member moves a sum, rounding included.
``noise``: samplers. ``accounting``: Renyi curves, composition, (epsilon, delta). ``budget``: whether a charge still fits.
(docs/protocol/secure-aggregation.md, "Differential privacy".)
"""
