"""Joint embedding: an encoder, a predictor of embeddings, and a sum of loss terms; VICReg and SimCLR are presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from jepa.errors import ConfigError, check_choice, check_number
from jepa.losses.base import Embeddings, Sizes, Target, Term
from jepa.losses.location import Location
from jepa.methods.base import EncoderFactory, Method, PredictorFactory, ProjectorFactory
from jepa.models.average import AveragedCopy
from jepa.models.heads import IdentityProjector
from jepa.models.inputs import INPUTS, first_input, inputs, num_inputs
from jepa.types import Batch, DataShapes, Losses, Rollout


class JointEmbedding(Method):
    """Networks, and a loss that is the sum of terms. A term whose coefficient is 0 is neither built nor computed.

    Source: Sobal et al. 2022 (arXiv 2211.10831) for the networks; each term names its own source.

    Args:
        shapes: the sizes of the data.
        encoder, predictor: make the networks.
        projector: makes the network for terms with ``space: projection``; None: the identity.
        input: what the encoder is shown, see :func:`jepa.models.inputs.inputs`. A frame without an input is
            not encoded; predictions, losses and probes start from the first frame with an input.
        terms: the loss terms by name, in order. Without terms nothing is trained.
        target_decay: None: terms compare predictions with the encodings. A number: with the encodings, without a
            gradient, of a copy of encoder and projector whose weights are a moving average; this share of the average
            is kept at each step. 0: the copy is the network itself, so that only the gradient is stopped.
            Source: Grill et al. 2020 (arXiv 2006.07733), eq. 1.
    """

    def __init__(
        self,
        *,
        shapes: DataShapes,
        encoder: EncoderFactory,
        predictor: PredictorFactory,
        projector: ProjectorFactory | None = None,
        terms: Mapping[str, Term],
        input: str = "frames",
        target_decay: float | None = None,
    ) -> None:
        super().__init__(shapes=shapes)
        self.input = check_choice("model.input", input, INPUTS)
        self.encoder = encoder(in_channels=shapes.channels * num_inputs(input), image_size=shapes.image_size)
        size = self.encoder.embedding_size
        self.predictor = predictor(embedding_size=size, action_size=shapes.action_size)
        if self.predictor.burn_in >= shapes.num_steps - self.first_judged:
            raise ConfigError(
                f"model.predictor.burn_in={self.predictor.burn_in}: must be below dataset.num_steps={shapes.num_steps}"
                + (f" - {self.first_judged}, the frames that model.input={input} has" if self.first_judged else "")
            )
        self.projector = (projector or IdentityProjector)(embedding_size=size)
        sizes = Sizes(shapes, size, self.projector.output_size)
        self.terms = built_terms(terms, sizes, first_frame=self.first_frame)
        self.hyperparameter_names = term_hyperparameters(self.terms)
        self.target = None if target_decay is None else self._averaged(target_decay)
        if terms and not self.terms:
            raise ConfigError("model: every coefficient is 0; at least one term must have a weight")
        self.trainable = bool(self.terms)
        self.sees_all_frames = any(term.sees_all_frames for term in self.terms.values())

    def _averaged(self, decay: float) -> AveragedNetworks:
        check_number("model.target_decay", decay, minimum=0, maximum=1)
        self.hyperparameter_names = (*self.hyperparameter_names, "target_decay")
        return AveragedNetworks(self.encoder, self.projector, decay=decay)

    @property
    def first_frame(self) -> int:
        """Index of the frame from which predictions run. Losses leave earlier frames out."""
        return self.context_frames - 1

    @property
    def first_judged(self) -> int:
        return first_input(self.input)

    @property
    def context_frames(self) -> int:
        return self.first_judged + self.predictor.burn_in

    def encode(self, states: Tensor) -> Tensor:
        """Encode all frames in one call. states: [T, B, C, H, W]; returns [T, B, D].

        The encoding of the first frame with an input also stands in the place of a frame before it.
        """
        return self._encode(self.encoder, states)

    def _encode(self, encoder: nn.Module, states: Tensor) -> Tensor:
        shown = inputs(states, self.input)
        encodings: Tensor = encoder(shown.flatten(0, 1)).reshape(*shown.shape[:2], -1)
        return torch.cat([encodings[:1], encodings]) if self.first_judged else encodings

    @property
    def predicts_actions_effects(self) -> bool:
        return self.predictor.uses_actions

    def predict(self, encodings: Tensor, actions: Tensor, latent_noise: Tensor | None = None) -> Tensor:
        """Predict z_1 ... z_{T-1}. encodings: [context_frames or more, B, D]; actions: [T-1, B, A].

        Returns:
            [T-1, B, D]. The encoding of the first frame with an input stands in the place of its prediction.
        """
        first = self.first_judged
        predictions: Tensor = self.predictor(encodings[first:], actions[first:])
        return torch.cat([encodings[1 : 1 + first], predictions]) if first else predictions

    def rollout(self, states: Tensor, actions: Tensor, latent_noise: Tensor | None = None) -> Rollout:
        encodings = self.encode(states)
        return Rollout(encodings, self.predict(encodings, actions))

    def draw_latent_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor | None:
        """[N]: for the terms that ask for random numbers."""
        count = num_normals(self.terms)
        return torch.randn(count, generator=generator, device=device) if count else None

    def forward(self, batch: Batch, latent_noise: Tensor | None = None) -> Losses:
        values = self._values(self.encode_batch(batch), batch, latent_noise)
        return Losses(weighted_sum(self.terms, values), values)

    def encode_batch(self, batch: Batch) -> Tensor:
        return self.encode(batch.states if self.sees_all_frames else batch.states[: self.context_frames])

    def contributions(self, encodings: Tensor, batch: Batch, latent_noise: Tensor | None) -> dict[str, Tensor]:
        return weighted(self.terms, self._values(encodings, batch, latent_noise))

    def _values(self, encodings: Tensor, batch: Batch, latent_noise: Tensor | None) -> dict[str, Tensor]:
        """The unweighted terms by name, each []."""
        first = self.first_frame

        def predict(actions: Tensor) -> Tensor:
            return self.predict(encodings, torch.cat([batch.actions[:first], actions]))[first:]

        embeddings = Embeddings(
            encodings=encodings[first:],
            predictions=self.predict(encodings, batch.actions)[first:],
            batch=batch.from_frame(first),
            projector=self.projector,
            predict=predict,
            normals=latent_noise,
            target=self._target_of(batch.states),
        )
        return {name: term(embeddings) for name, term in self.terms.items()}

    def _target_of(self, states: Tensor) -> Target | None:
        """What the averaged networks make of the frames [T, B, C, H, W], from ``first_frame`` on; None without them."""
        if self.target is None:
            return None
        return Target(self._encode(self.target.encoder, states)[self.first_frame :], self.target.projector)

    @property
    def has_after_step(self) -> bool:
        return self.target is not None

    def after_step(self) -> None:
        if self.target is not None:
            self.target.follow(self.encoder, self.projector)

    def seen(self, states: Tensor) -> Tensor:
        shown = inputs(states, self.input)
        return torch.cat([shown[:1], shown]) if self.first_judged else shown

    def trivial_loss(self, batch: Batch, copies: Tensor) -> Tensor:
        """The weighted sum of :meth:`Term.trivial`. The projector is the identity: it need not change a copy."""
        first = self.first_frame
        copied = copies[first:]
        repeated = copied[:1].expand(copied.shape[0] - 1, -1, -1)
        embeddings = Embeddings(
            encodings=copied,
            predictions=repeated,
            batch=batch.from_frame(first),
            projector=IdentityProjector(embedding_size=copies.shape[-1]),
            predict=lambda actions: repeated,
        )
        values = {name: cast(Term, term).trivial(embeddings) for name, term in self.terms.items()}
        return weighted_sum(self.terms, values)

    @property
    def smallest_batch(self) -> int:
        return smallest_batch(self.terms)

    def loss_weights(self) -> dict[str, str]:
        return term_weights(self.terms)

    @property
    def has_location_head(self) -> bool:
        return self.location_head is not None

    @property
    def location_head(self) -> Location | None:
        """The first term with a location head (``model=supervised`` has one); None if no term has one."""
        return next((term for term in self.terms.values() if isinstance(term, Location)), None)

    @property
    def has_decoder(self) -> bool:
        return self._decoder is not None

    @property
    def _decoder(self) -> nn.Module | None:
        decoders = (cast(Term, term).image_decoder for term in self.terms.values())
        return next((decoder for decoder in decoders if decoder is not None), None)

    def reconstructions(self, states: Tensor, actions: Tensor, latent_noise: Tensor | None) -> dict[str, Tensor]:
        """From the encodings of all frames, and from the predictions of those that the predictor is not shown."""
        decoder = self._decoder
        if decoder is None:
            return {}
        rollout = self.rollout(states, actions)
        return {"encoding": decoder(rollout.encodings), "prediction": decoder(self._trajectory(rollout))}

    def _trajectory(self, rollout: Rollout) -> Tensor:
        """Encodings of the frames that predictions start from, then predictions, [T, B, D]."""
        first = self.first_frame
        return torch.cat([rollout.encodings[: first + 1], rollout.predictions[first:]])

    def predict_locations(self, rollout: Rollout) -> Tensor:
        """The locations that :attr:`location_head` reads from the encodings of shown frames and from predictions.

        rollout: encodings [context_frames or more, B, D], predictions [T-1, B, D].

        Returns:
            Normalised locations [T, B, K, 2].
        """
        assert self.location_head is not None
        return self.location_head.predict_locations(self._trajectory(rollout))


class AveragedNetworks(nn.Module):
    """Copies of an encoder and a projector whose weights are moving averages of theirs."""

    def __init__(self, encoder: nn.Module, projector: nn.Module, *, decay: float) -> None:
        """decay: share of the average that a step keeps."""
        super().__init__()
        self.encoder = AveragedCopy(encoder, decay=decay)
        self.projector = AveragedCopy(projector, decay=decay)

    def follow(self, encoder: nn.Module, projector: nn.Module) -> None:
        """Move the averages towards the present weights."""
        self.encoder.follow(encoder)
        self.projector.follow(projector)


def built_terms(terms: Mapping[str, Term], sizes: Sizes, *, first_frame: int = 0) -> nn.ModuleDict:
    """The terms with a coefficient other than 0, in order, with their networks built.

    first_frame: index of the first frame that the terms are given.

    Raises:
        ConfigError: a term compares more frames than there are.
    """
    kept = {name: term for name, term in terms.items() if term.is_on}
    for name, term in kept.items():
        fewest = first_frame + term.fewest_frames
        if sizes.shapes.num_steps < fewest:
            raise ConfigError(
                f"dataset.num_steps={sizes.shapes.num_steps}: must be at least {fewest} for model.terms.{name}"
            )
        term.build(sizes)
    return nn.ModuleDict(kept)


def term_hyperparameters(terms: nn.ModuleDict) -> tuple[str, ...]:
    """The configuration keys, below ``model.``, of numbers in which jobs of one pack may differ."""
    return tuple(
        f"terms.{name}.{key}" for name, term in terms.items() for key in cast(Term, term).hyperparameter_names
    )


def smallest_batch(terms: nn.ModuleDict) -> int:
    """The smallest batch size for which every term is defined."""
    return max((cast(Term, term).smallest_batch for term in terms.values()), default=1)


def num_normals(terms: nn.ModuleDict) -> int:
    """How many standard normals a batch's terms need; they share them."""
    return max((cast(Term, term).num_normals for term in terms.values()), default=0)


def term_weights(terms: nn.ModuleDict) -> dict[str, str]:
    """The weight of each term in the loss, as text."""
    return {name: cast(Term, term).weight_in_words() for name, term in terms.items()}


def weighted(terms: nn.ModuleDict, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms' values times their coefficients, each []."""
    return {name: cast(Term, terms[name]).weighted(value) for name, value in values.items()}


def weighted_sum(terms: nn.ModuleDict, values: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms' values times their coefficients, []."""
    parts = list(weighted(terms, values).values())
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]
