"""BigGAN-deep: configuration, network, and the published files."""
