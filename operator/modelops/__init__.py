"""ModelOps on Kubernetes."""
