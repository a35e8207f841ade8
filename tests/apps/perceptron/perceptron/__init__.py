"""A small torch app: see task.py."""
