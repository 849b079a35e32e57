"""What a person sees and presses: output, progress, Ctrl-C, views, pages."""
