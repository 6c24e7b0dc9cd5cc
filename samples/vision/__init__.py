"""DINOv2 small with its own weights: how many digits a probe on its features tells apart."""
