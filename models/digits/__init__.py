"""Handwritten digits: scikit-learn's 1,797 real scans, spread unevenly over five members."""
