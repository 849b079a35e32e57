"""The mathematics of a step: formulas, methods and the choice of a token, without models."""
