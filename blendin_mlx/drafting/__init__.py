"""Tokens proposed ahead, so that one pass of the base scores many, and when that pays."""
