"""The smallest Flower app: see task.py."""
