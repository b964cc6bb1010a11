"""Methods: networks that compute a training loss, and the embeddings that probes judge."""
