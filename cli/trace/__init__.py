"""``blendin trace``: verify recorded runs, view them, or render them as a web page."""
