"""Networks: encoders, predictors, heads, decoders. They do not depend on losses or data."""
