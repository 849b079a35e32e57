"""Pairs and models known by name: the TOML files that describe them."""
