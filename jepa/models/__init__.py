"""The networks: encoders, predictors, heads, decoders; they know tensors and sizes, nothing of losses or data."""
