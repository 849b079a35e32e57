"""``blendin tune``: the dial set from good answers, and whether the guide is worth using at all."""
