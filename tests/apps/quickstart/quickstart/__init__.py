"""As Flower's users write apps."""
