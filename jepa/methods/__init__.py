"""Methods: networks that turn a batch into a loss, and into the embeddings that probes judge."""
