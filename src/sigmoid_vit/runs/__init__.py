"""Runs: their settings, their folders, their networks, and tables of them."""
