"""Options that commands share, their types, and settings from files."""
