"""Turns checkpoints into self-describing ONNX files and proves that they agree."""
