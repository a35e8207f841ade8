"""The sandboxed training process: a consented Flower app, warm, without network, keys, or sight of anything but its
data.
"""
