"""`make observe`: a federation beside a real Prometheus."""
