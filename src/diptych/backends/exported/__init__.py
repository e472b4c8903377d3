"""Exported models on ONNX Runtime and OpenVINO: ours and those that others released."""
