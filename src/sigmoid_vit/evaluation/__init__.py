"""Evaluation: how right a network is, where its attention lies, and whether that decides."""
