"""``blendin trace``: a recorded run verified, viewed, or made a web page."""
