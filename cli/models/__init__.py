"""``blendin models``: list, fetch, check, import and remove models."""
