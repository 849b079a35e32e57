"""Two machines: the guide's network runs on another one, which answers over a socket."""
