"""``blendin serve``: the pair behind OpenAI's interface, on the loopback address."""
