"""``blendin diagnose``: measure guides on many prompts, and rank them."""
