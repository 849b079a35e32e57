"""A given text under a pair: how likely it is, and what every setting of the dial makes of it."""
