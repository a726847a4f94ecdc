"""How good a model is, on any data, with any engine: scores, calibration, reports and comparisons."""
