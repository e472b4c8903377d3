"""Conversion of a model to ONNX and OpenVINO: tracing, quantising, checking."""
