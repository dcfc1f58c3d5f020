"""Training of small Music Transformers, their losses, and music that they go on with.

Shape legend: N = pieces, W = windows of a piece, T = events of a window, Q = queries, B = batch.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from lumina_ray.symbolic.pieces import Piece, Query
from lumina_ray.symbolic.recipe import SymbolicRecipe, SymbolicTraining
from lumina_ray.symbolic.transformer import MusicTransformer
from lumina_ray.training.data import learning_rate, step_generator

Weights = dict[str, np.ndarray]
"""Parameters of a model by name, float32."""
_LARGEST_GRADIENT = 1.0


def new_model(recipe: SymbolicRecipe, seed: int) -> MusicTransformer:
    """Make a model of random weights."""
    return MusicTransformer(
        n_layers=recipe.n_layers, dim=recipe.dim, heads=recipe.heads, window=recipe.window, seed=seed
    )


def weights_of(model: MusicTransformer) -> Weights:
    """Copy a model's weights."""
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def with_weights(recipe: SymbolicRecipe, weights: Weights) -> MusicTransformer:
    """Make the model that has these weights."""
    model = new_model(recipe, recipe.seed)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    return model


def count_steps(recipe: SymbolicRecipe, n_pieces: int) -> int:
    """Count the optimiser's steps of a training: the same for all models."""
    return recipe.epochs * -(-n_pieces * recipe.windows // recipe.batch)


def checkpoint_steps(recipe: SymbolicRecipe, n_pieces: int) -> list[int]:
    """Steps after which a model is kept."""
    return [max(1, round(fraction * count_steps(recipe, n_pieces))) for fraction in recipe.checkpoints]


def learning_rates(recipe: SymbolicRecipe, n_pieces: int) -> np.ndarray:
    """Learning rates of the last step before each checkpoint, float64."""
    steps = count_steps(recipe, n_pieces)
    return np.array([learning_rate(at - 1, steps, recipe.rate) for at in checkpoint_steps(recipe, n_pieces)])


def trained(recipe: SymbolicRecipe, training: SymbolicTraining, pieces: Sequence[Piece]) -> Iterator[MusicTransformer]:
    """Train a model with AdamW, and yield it at each checkpoint.

    Windows of pieces that it does not learn from keep their places in the order, and are left out of their batches.
    """
    windows_WT = torch.from_numpy(np.concatenate([piece.learned_WT for piece in pieces]))
    learned_W = torch.zeros(len(pieces), dtype=torch.bool)
    learned_W[list(training.pieces)] = True
    learned_W = learned_W.repeat_interleave(recipe.windows)
    model = new_model(recipe, training.weights)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate)
    kept, steps = checkpoint_steps(recipe, len(pieces)), count_steps(recipe, len(pieces))
    step = 0
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(windows_WT), generator=step_generator(training.order, epoch))
        for batch in order.split(recipe.batch):
            batch = batch[learned_W[batch]]
            optimiser.param_groups[0]["lr"] = learning_rate(step, steps, recipe.rate)
            if len(batch):
                optimiser.zero_grad()
                (model.losses(windows_WT[batch]).mean(dim=1).sum() / recipe.batch).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
                optimiser.step()
            step += 1
            if step in kept:
                yield model


@torch.no_grad()
def losses(model: MusicTransformer, queries: Sequence[Query]) -> np.ndarray:
    """Mean loss of each query's events that count, in nats: float64 `[Q]`."""
    events_QT = torch.from_numpy(np.stack([query.events_T for query in queries]))
    losses_QT = torch.cat([model.losses(part_BT) for part_BT in events_QT.split(32)]).double()
    return np.array([float(of_T[query.first :].mean()) for query, of_T in zip(queries, losses_QT, strict=True)])


@torch.no_grad()
def continued(model: MusicTransformer, prompts_BT: Tensor, length: int, seed: int) -> Tensor:
    """Sample events after each prompt, at temperature 1: int64 `[B, length]`, prompts included."""
    generator = torch.Generator().manual_seed(seed)
    events_BT = prompts_BT
    while events_BT.shape[1] < length:
        # The last place is the one that is asked about; what stands there is not looked at.
        logits_BV = model(torch.nn.functional.pad(events_BT, (0, 1)))[:, -1]
        drawn_B1 = torch.multinomial(logits_BV.softmax(dim=-1), 1, generator=generator)
        events_BT = torch.cat([events_BT, drawn_B1], dim=1)
    return events_BT


def generated(
    recipe: SymbolicRecipe, model: MusicTransformer, pieces: Sequence[Piece], of: Sequence[int]
) -> list[Query]:
    """Let a model go on with the beginning of what is held out of some pieces; only its own events count."""
    prompts_BT = torch.from_numpy(np.stack([pieces[i].held_T[: recipe.prompt] for i in of]))
    made_BT = continued(model, prompts_BT, recipe.window, recipe.seed).numpy()
    return [Query("generated", i, events_T, recipe.prompt) for i, events_T in zip(of, made_BT, strict=True)]
