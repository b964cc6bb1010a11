"""RSSM: reconstruction with a recurrent state-space model, trained on an evidence lower bound."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from jepa.errors import ConfigError
from jepa.losses.base import Embeddings, Sizes, Term
from jepa.losses.reconstruction import DecoderFactory
from jepa.methods.base import EncoderFactory, Method
from jepa.methods.joint_embedding import (
    built_terms,
    num_normals,
    smallest_batch,
    term_hyperparameters,
    term_weights,
    weighted,
    weighted_sum,
)
from jepa.models.heads import IdentityProjector
from jepa.models.rssm import Gaussian, Posterior, Transition, kl_divergence
from jepa.types import Batch, DataShapes, Losses, Rollout


class RSSM(Method):
    """A recurrent belief b_t, updated by samples s_t and actions; images are decoded from samples of the prior.

    Loss = (MSE(dec(s_0, b_0), x_0) + sum over t >= 1 of [max(mean KL(prior || posterior), free_nats)
    + MSE(dec(prior sample_t, b_t), x_t)]) / (T-1), with b_0 = z_0.
    Source: Hafner et al. 2019 (arXiv 1811.04551). Deviations are those of the original study (docs/science.md).

    Args:
        shapes: the sizes of the data.
        encoder, decoder: make the networks.
        min_var: added to the standard deviations of prior and posterior for t >= 1, in training.
        free_nats: lower limit of each time step's KL (mean over batch and features) in the loss.
        reparameterize: true: gradients flow through samples; false: they do not, as in the original.
        terms: further loss terms by name; their predictions are the filter's beliefs b_1 ... b_{T-1}.
    """

    min_var: Tensor  # []
    free_nats: Tensor  # []

    gains_compiled = False

    def __init__(
        self,
        *,
        shapes: DataShapes,
        encoder: EncoderFactory,
        decoder: DecoderFactory,
        min_var: float,
        free_nats: float,
        reparameterize: bool,
        terms: Mapping[str, Term] | None = None,
    ) -> None:
        super().__init__(shapes=shapes)
        if not isinstance(reparameterize, bool):
            raise ConfigError(f"model.reparameterize={reparameterize!r}: must be true or false")
        if shapes.num_steps < 2:
            raise ConfigError(f"dataset.num_steps={shapes.num_steps}: must be at least 2 for model=rssm")
        self.register_hyperparameter("min_var", min_var)
        self.register_hyperparameter("free_nats", free_nats)
        self.reparameterize = reparameterize
        self.encoder = encoder(in_channels=shapes.channels, image_size=shapes.image_size)
        size = self.encoder.embedding_size
        self.predictor = Transition(embedding_size=size, action_size=shapes.action_size)
        self.posterior = Posterior(embedding_size=size)
        self.decoder = decoder(input_size=2 * size, channels=shapes.channels, image_size=shapes.image_size)
        self.terms = built_terms(terms or {}, Sizes(shapes, size, size))
        self.hyperparameter_names = (*self.hyperparameter_names, *term_hyperparameters(self.terms))
        self.projector = IdentityProjector(embedding_size=size)

    def draw_latent_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor:
        """[2T-1, B, D]: for s_0, then for each t >= 1 for the samples of prior and posterior.

        If terms ask for random numbers, these follow, and the tensor is flat: [(2T-1)·B·D + N].
        """
        noise = self._normals(2 * self.shapes.num_steps - 1, generator, batch_size, device)
        count = num_normals(self.terms)
        if not count:
            return noise
        return torch.cat([noise.flatten(), torch.randn(count, generator=generator, device=device)])

    def _parted(self, latent_noise: Tensor | None, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """The normals of the samples [2T-1, B, D], and those of the terms [N], of :meth:`draw_latent_noise`."""
        assert latent_noise is not None, "RSSM needs what draw_latent_noise gives"
        count = num_normals(self.terms)
        if not count:
            return latent_noise, None
        samples = latent_noise[:-count].view(2 * self.shapes.num_steps - 1, batch_size, -1)
        return samples, latent_noise[-count:]

    def draw_rollout_noise(self, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor:
        """[T-1, B, D]: for the samples s_0 ... s_{T-2} of the prior."""
        return self._normals(self.shapes.num_steps - 1, generator, batch_size, device)

    def forward(self, batch: Batch, latent_noise: Tensor | None = None) -> Losses:
        """Terms: ``reconstruction``, the sum of MSEs / (T-1); ``kl``, the mean over t >= 1 without ``free_nats``."""
        return self._evaluate(self.encode_batch(batch), batch, latent_noise)[0]

    def encode_batch(self, batch: Batch) -> Tensor:
        return self._encode(batch.states)

    def contributions(self, encodings: Tensor, batch: Batch, latent_noise: Tensor | None) -> dict[str, Tensor]:
        return self._evaluate(encodings, batch, latent_noise)[1]

    def _evaluate(
        self, encodings: Tensor, batch: Batch, latent_noise: Tensor | None
    ) -> tuple[Losses, dict[str, Tensor]]:
        """The losses, and what each term adds to the total."""
        latent_noise, normals = self._parted(latent_noise, batch.states.shape[1])
        first = self.predictor.prior(encodings[0])
        first_sample = self._carried(first.sample(latent_noise[0]))
        beliefs, posterior = self.filter(encodings, batch.actions, first_sample, latent_noise[2::2])
        prior = self.predictor.prior(beliefs).widened(self.min_var)
        samples = torch.cat([first_sample.unsqueeze(0), self._carried(prior.sample(latent_noise[1::2]))])
        features = torch.cat([samples, torch.cat([encodings[:1], beliefs])], dim=-1)  # [T, B, 2D]
        images = self.decoder(features)
        num_steps = len(encodings)
        # All frames have equally many pixels, so the mean over all frames is the mean of the time steps' means.
        error = (images.to(batch.states.dtype) - batch.states).square().mean()
        reconstruction = error * (num_steps / (num_steps - 1))
        kl = kl_divergence(prior, posterior).mean(dim=(1, 2))  # [T-1]
        own = {"reconstruction": reconstruction, "kl": torch.maximum(kl, self.free_nats).mean()}
        losses = Losses(own["reconstruction"] + own["kl"], {"reconstruction": reconstruction, "kl": kl.mean()})
        if not self.terms:
            return losses, own
        embeddings = Embeddings(
            encodings=encodings,
            predictions=beliefs,
            batch=batch,
            projector=self.projector,
            predict=lambda actions: self.filter(encodings, actions, first_sample, latent_noise[2::2])[0],
            normals=normals,
        )
        values = {name: term(embeddings) for name, term in self.terms.items()}
        total = losses.total + weighted_sum(self.terms, values)
        return Losses(total, {**losses.terms, **values}), {**own, **weighted(self.terms, values)}

    @property
    def smallest_batch(self) -> int:
        return smallest_batch(self.terms)

    def loss_weights(self) -> dict[str, str]:
        own = {"reconstruction": "× 1", "kl": f"× 1 and at least {self.free_nats.item():.4g} a frame"}
        return {**own, **term_weights(self.terms)}

    def rollout(self, states: Tensor, actions: Tensor, latent_noise: Tensor | None = None) -> Rollout:
        """Encodings, and the beliefs b_1 ... b_{T-1}, which follow from frame 0, actions and samples of the prior."""
        assert latent_noise is not None, "RSSM needs what draw_rollout_noise gives"
        encodings = self._encode(states)
        return Rollout(encodings, self._open_loop(encodings[0], actions, latent_noise))

    @property
    def predicts_actions_effects(self) -> bool:
        return True

    def predict(self, encodings: Tensor, actions: Tensor, latent_noise: Tensor | None = None) -> Tensor:
        """Beliefs, as :meth:`rollout` computes them."""
        assert latent_noise is not None, "RSSM needs what draw_rollout_noise gives"
        return self._open_loop(encodings[0].to(self.predictor.rnn.weight_hh.dtype), actions, latent_noise)

    def _open_loop(self, belief: Tensor, actions: Tensor, latent_noise: Tensor) -> Tensor:
        """Beliefs b_1 ... b_{T-1} [T-1, B, D] from b_0 [B, D], with samples of the prior that are never corrected."""
        beliefs = []
        for t in range(len(actions)):
            belief = self.predictor.step(belief, self.predictor.prior(belief).sample(latent_noise[t]), actions[t])
            beliefs.append(belief)
        return torch.stack(beliefs)

    @property
    def has_decoder(self) -> bool:
        return True

    def reconstructions(self, states: Tensor, actions: Tensor, latent_noise: Tensor | None) -> dict[str, Tensor]:
        """From samples of the posterior, which sees every frame, and of the prior in open loop, which sees frame 0."""
        latent_noise, _ = self._parted(latent_noise, states.shape[1])
        encodings = self._encode(states)
        first = self.predictor.prior(encodings[0]).sample(latent_noise[0])
        beliefs, posterior = self.filter(encodings, actions, first, latent_noise[2::2])
        seen = torch.cat([first.unsqueeze(0), posterior.sample(latent_noise[2::2])])
        of_prior = torch.cat([latent_noise[:1], latent_noise[1::2]])  # [T, B, D]
        predicted = torch.cat([encodings[:1], self._open_loop(encodings[0], actions, of_prior)])
        guessed = self.predictor.prior(predicted).sample(of_prior)
        return {
            "posterior": self.decoder(torch.cat([seen, torch.cat([encodings[:1], beliefs])], dim=-1)),
            "open loop": self.decoder(torch.cat([guessed, predicted], dim=-1)),
        }

    def filter(
        self, encodings: Tensor, actions: Tensor, sample: Tensor, latent_noise: Tensor
    ) -> tuple[Tensor, Gaussian]:
        """Beliefs and posteriors for t = 1 ... T-1, one time step after the other.

        Args:
            encodings: [T, B, D].
            actions: [T-1, B, A].
            sample: s_0 [B, D].
            latent_noise: standard normals for the posteriors' samples [T-1, B, D].

        Returns:
            Beliefs [T-1, B, D], and posteriors with min_var added, [T-1, B, D].
        """
        belief, beliefs, posteriors = encodings[0], [], []
        for t in range(len(actions)):
            belief = self.predictor.step(belief, sample, actions[t])
            posterior = self.posterior(encodings[t + 1], belief).widened(self.min_var)
            sample = self._carried(posterior.sample(latent_noise[t]))
            beliefs.append(belief)
            posteriors.append(posterior)
        return torch.stack(beliefs), Gaussian(*(torch.stack(parts) for parts in zip(*posteriors, strict=True)))

    def _carried(self, samples: Tensor) -> Tensor:
        return samples if self.reparameterize else samples.detach()

    def _encode(self, states: Tensor) -> Tensor:
        """states: [S, B, C, H, W]; returns [S, B, D] in the parameters' type, so that beliefs have this type, too."""
        encodings = self.encoder(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        return encodings.to(self.predictor.rnn.weight_hh.dtype)  # type: ignore[no-any-return]

    def _normals(self, count: int, generator: torch.Generator, batch_size: int, device: torch.device) -> Tensor:
        shape = (count, batch_size, self.encoder.embedding_size)
        return torch.randn(shape, generator=generator, device=device)
