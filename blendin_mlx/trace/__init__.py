"""Recorded runs: written, read, and verified by computing each step again."""
