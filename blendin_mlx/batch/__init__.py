"""Many answers at once: rows of different lengths share the passes of both models."""
