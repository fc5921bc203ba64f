"""Attacks, adversarial training, and robust accuracy."""
