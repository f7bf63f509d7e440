"""Edits that people made: their store, its exchange with other programs, and maps for training."""
