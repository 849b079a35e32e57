"""Models on this machine: listed, found, verified, removed."""
