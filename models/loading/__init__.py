"""Load a model folder into memory: config, weight headers, memory check, quantization."""
