"""Models that read: contexts with their caches, and the guide that follows the base's text."""
