"""Talk to the outside: the API server and Prometheus."""
