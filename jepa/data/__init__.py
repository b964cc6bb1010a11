"""Data: how dots move, how they are drawn, what distracts from them, and the streams of batches made of it."""
