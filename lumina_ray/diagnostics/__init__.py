"""Diagnostics of a matrix of scores: can it be trusted, and do the songs that it names share musical features?

numpy alone, without a model and without retraining. See docs/diagnostics.md.
"""
