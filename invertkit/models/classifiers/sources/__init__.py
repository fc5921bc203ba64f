"""Where classifiers come from: the package, files, the robust catalogue, torchvision, timm."""
