"""InfoNCE: a prediction is told from other embeddings of its own sequence, of other sequences, or of both."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jepa.errors import check_choice, check_count
from jepa.hyperparameters import register_hyperparameter
from jepa.losses.base import Embeddings, Term, full_precision

NEGATIVES = ("cross", "within", "mixed")
SIMILARITIES = ("cosine", "dot")


def within_sequence_loss(predictions: Tensor, targets: Tensor, temperature: Tensor) -> Tensor:
    """Mean over frames and sequences of -log softmax over s of sim(prediction of frame t, embedding of frame s), at t.

    The candidates are the T-1 embeddings of the prediction's own sequence; one is the positive. Whatever is constant
    in a sequence is alike in all of them, so it cannot help. Not symmetric: no embedding is compared with several
    predictions.

    Args:
        predictions: [T-1, B, F].
        targets: embeddings of the same frames, [T-1, B, F].
        temperature: divides the dot products; [], positive.

    Returns:
        [].

    Source: van den Oord et al. 2018 (arXiv 1807.03748), eq. 4; negatives as in arXiv 2606.07770.
    """
    similarity = predictions.transpose(0, 1) @ targets.transpose(0, 1).mT / temperature  # [B, T-1, T-1]
    return (similarity.logsumexp(dim=-1) - similarity.diagonal(dim1=-2, dim2=-1)).mean()


def across_sequences_loss(predictions: Tensor, targets: Tensor, temperature: Tensor, repeats: int = 1) -> Tensor:
    """As :func:`within_sequence_loss`, with ``repeats`` frames of each of the B sequences as the candidates.

    The frames are t, t + n, t + 2n, ... with n = (T-1) // repeats, counted in a circle over 1 ... T-1; one of the
    candidates is the positive, repeats - 1 are of the prediction's own sequence. With repeats = 1 the candidates are
    the embeddings of frame t of all sequences. Where ``repeats`` divides T-1 this is the loss of Contrastive
    Representations for Temporal Reasoning, whose batch holds each sequence ``repeats`` times, each time at another
    frame: T-1 frames make (T-1) / repeats such batches. So the stream of data stays as it is. Memory and time grow
    with (T-1)·repeats·B².

    Source: arXiv 2508.13113, section 4. Deviations: the frames are evenly spaced, not random; not symmetric.
    """
    spacing = predictions.shape[-3] // repeats
    candidates = [targets.roll(-k * spacing, dims=-3) for k in range(repeats)]
    similarity = torch.cat([predictions @ each.mT for each in candidates], dim=-1) / temperature  # [T-1, B, repeats B]
    return (similarity.logsumexp(dim=-1) - similarity.diagonal(dim1=-2, dim2=-1)).mean()


class InfoNCE(Term):
    """InfoNCE between the projections of predictions and of embeddings.

    Args:
        coeff: as for :class:`Term`.
        negatives: ``within``: the other frames of the same sequence. ``cross``: the same frame of the other sequences
            (NTXent, the paper's loss, also compares predictions with each other, and is symmetric). ``mixed``: both.
        similarity: ``cosine`` or ``dot``.
        temperature: divides the similarities.
        repeats: for ``mixed``: from how many frames of each sequence the candidates come.
    """

    hyperparameter_names = ("coeff", "temperature")

    temperature: Tensor  # []

    def __init__(
        self, *, coeff: float | None, negatives: str, similarity: str, temperature: float, repeats: int
    ) -> None:
        super().__init__(coeff=coeff)
        self.negatives = check_choice("negatives", negatives, NEGATIVES)
        self.similarity = check_choice("similarity", similarity, SIMILARITIES)
        register_hyperparameter(self, "temperature", temperature, key="temperature", positive=True)
        check_count("repeats", repeats, minimum=2, maximum=1024)
        self.repeats = repeats if negatives == "mixed" else 1
        self.smallest_batch = 1 if negatives == "within" else 2
        self.fewest_frames = 3 if negatives == "within" else 1 + self.repeats

    def forward(self, embeddings: Embeddings) -> Tensor:
        predicted = full_precision(embeddings.project_predictions())
        targets = full_precision(embeddings.target_projections[1:])
        if self.similarity == "cosine":
            predicted, targets = F.normalize(predicted, dim=-1), F.normalize(targets, dim=-1)
        with torch.autocast(predicted.device.type, enabled=False):
            if self.negatives == "within":
                return within_sequence_loss(predicted, targets, self.temperature)
            return across_sequences_loss(predicted, targets, self.temperature, self.repeats)
