"""Evaluation: how right a network is, where its attention lies, whether that decides, and its speed."""
