"""Chat templates and base templates, rendered in a child process with limits."""
