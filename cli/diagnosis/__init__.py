"""``blendin diagnose``: guides measured on many prompts, ranked and judged."""
