"""A linear reader of digits that learns by DP-SGD: see task.py."""
