"""Music as notes: features of MIDI files, and a small Music Transformer with ground truth by retraining.

See docs/symbolic.md.
"""
