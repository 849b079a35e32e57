"""``blendin chat``: the conversation, its slash commands, its files."""
