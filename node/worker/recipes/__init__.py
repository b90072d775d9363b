"""Models built from plain weights with onnx.helper, without torch."""
