"""Predictors: from the encodings of the first frames and the actions to predicted encodings of later frames."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from jepa.errors import check_count, check_widths
from jepa.models.gru import GRU
from jepa.models.heads import MLP


class Predictor(nn.Module, ABC):
    """Abstract: predicts from the encodings of frames 0 ... burn_in - 1 and the actions; it uses no later encodings."""

    burn_in: int = 1
    uses_actions: bool = True  # False: predictions do not depend on the actions

    @abstractmethod
    def forward(self, encodings: Tensor, actions: Tensor) -> Tensor:
        """Predict z_1 ... z_{T-1}. encodings: [burn_in or more, B, D]; actions: [T-1, B, A]; returns [T-1, B, D].

        A frame before ``burn_in`` is predicted from the true encoding of the frame before. Losses leave these
        predictions out; probes judge them together with the others, and report errors by time step, too.
        """


class RNN(Predictor):
    """A GRU over the actions. The initial state of each layer is the encoding of frame 0 (docs/science.md).

    Args:
        embedding_size: D, the size of the state.
        action_size: A.
        num_layers: layers of the GRU.
    """

    def __init__(self, *, embedding_size: int, action_size: int, num_layers: int) -> None:
        super().__init__()
        check_count("model.predictor.num_layers", num_layers, maximum=64)
        self.rnn = GRU(input_size=action_size, hidden_size=embedding_size, num_layers=num_layers)

    def forward(self, encodings: Tensor, actions: Tensor) -> Tensor:
        outputs: Tensor
        outputs, _ = self.rnn(actions, encodings[0].expand(self.rnn.num_layers, -1, -1))
        return outputs


class RNNBurnIn(Predictor):
    """A GRU over [encoding, action], first of true encodings, then of its own predictions (docs/science.md).

    The initial state is zero. A prediction is a Linear of the last layer's state.

    Args:
        embedding_size: D, also the size of the state.
        action_size: A.
        num_layers: layers of the GRU.
        burn_in: number of frames whose true encodings are used, 2 or more.
    """

    def __init__(self, *, embedding_size: int, action_size: int, num_layers: int, burn_in: int) -> None:
        super().__init__()
        check_count("model.predictor.num_layers", num_layers, maximum=64)
        self.burn_in = check_count("model.predictor.burn_in", burn_in, minimum=2, maximum=10_000)
        self.rnn = GRU(input_size=embedding_size + action_size, hidden_size=embedding_size, num_layers=num_layers)
        self.output_projector = nn.Linear(embedding_size, embedding_size)

    def forward(self, encodings: Tensor, actions: Tensor) -> Tensor:
        shown = torch.cat([encodings[: self.burn_in - 1], actions[: self.burn_in - 1]], dim=-1)
        hidden = shown.new_zeros(self.rnn.num_layers, shown.shape[1], self.rnn.hidden_size)
        outputs, hidden = self.rnn(shown, hidden)
        predictions = [self.output_projector(outputs)]
        latest = encodings[self.burn_in - 1]
        for action in actions[self.burn_in - 1 :]:
            hidden = self.rnn.step(torch.cat([latest, action], dim=-1), hidden)
            latest = self.output_projector(hidden[-1])
            predictions.append(latest.unsqueeze(0))
        return torch.cat(predictions)


class MLPPredictor(Predictor):
    """Residual steps h <- h + MLP([h, a]), starting from the encoding of frame 0 (docs/science.md).

    Args:
        embedding_size: D.
        action_size: A.
        hidden: widths of the hidden layers, such as ``"515-512-512"``.
    """

    def __init__(self, *, embedding_size: int, action_size: int, hidden: str | int | None) -> None:
        super().__init__()
        widths = check_widths("model.predictor.hidden", hidden)
        self.model = MLP(sizes=[embedding_size + action_size, *widths, embedding_size]).model

    def forward(self, encodings: Tensor, actions: Tensor) -> Tensor:
        latest, predictions = encodings[0], []
        for action in actions:
            latest = latest + self.model(torch.cat([latest, action], dim=-1))
            predictions.append(latest)
        return torch.stack(predictions)


class IdentityPredictor(Predictor):
    """Repeats the encoding of frame 0: a baseline without a model of motion."""

    uses_actions = False

    def __init__(self, *, embedding_size: int, action_size: int) -> None:
        super().__init__()

    def forward(self, encodings: Tensor, actions: Tensor) -> Tensor:
        return encodings[0].expand(actions.shape[0], -1, -1)
