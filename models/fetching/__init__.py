"""From a name to a folder: resolve it, and fetch what is missing."""
