"""A projected object moved, coloured and blended back."""
