"""The node agent that reads GPUs through NVML; nvml.py alone knows the library."""
