"""Resolve model names to folders, and fetch what is missing."""
