"""Players: networks that learn while the image is optimised."""
