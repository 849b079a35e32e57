"""GGUF files imported as model folders."""
