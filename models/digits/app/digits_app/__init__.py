"""A Flower app that reads handwritten digits."""
