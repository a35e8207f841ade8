"""Carries messages and keeps order; trusted for availability only; never imports torch or models."""
