"""A Flower app that tells heart disease from thirteen figures."""
