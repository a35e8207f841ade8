"""What operators watch over HTTP: /metrics, /healthz, /readyz."""
