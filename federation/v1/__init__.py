"""Generated from protos/federation/v1 by protos/generate.py; do not edit."""
