"""An app that goes wrong on purpose: see client_app.py."""
