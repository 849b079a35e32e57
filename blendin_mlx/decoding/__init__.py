"""The decoding loop, and its steps as streamed text."""
