"""What does the embedding of a run know? A script in cells: run it whole, or cell by cell in an editor or notebook.

    python docs/look_inside.py outputs/runs/vicreg-1bc08d056d [FIGURE.png]
"""

# %% Load a run
import sys

import torch
from matplotlib.figure import Figure

import jepa

run = jepa.load(sys.argv[1])
target = sys.argv[2] if len(sys.argv) > 2 else "look_inside.png"
print(run)

# %% Sequences that it has not seen, and what it makes of them
batch = run.environment.batch(256)
z = run.encode(batch.states)  # [T, B, D]
predicted = run.predict(batch.states[0], batch.actions)  # [T-1, B, D]
true = run.environment.to_px(batch.locations)[:, :, 0]  # [T, B, 2], px, of the action dot

# %% Read the location out again, with the maps that the run was judged with
probe = run.probe("location")
answers = probe.prediction(torch.cat([z[:1], predicted]))[:, :, 0]  # [T, B, 2], px
rmse = (answers - true).square().sum(-1).mean(1).sqrt()  # [T]
for step in (0, 1, len(rmse) // 2, len(rmse) - 1):
    print(f"frame {step:2d}: RMSE {rmse[step]:.2f} px")

# %% The two directions in which the embeddings vary most, coloured by where the dot is
flat = z.flatten(0, 1)
centered = flat - flat.mean(0)
_, spread, directions = torch.linalg.svd(centered, full_matrices=False)
plane = centered @ directions[:2].T
share = (spread[:2].square().sum() / spread.square().sum()).item()
print(f"two directions hold {share:.0%} of the variance")

# %% Draw
figure = Figure(figsize=(11, 3.6), layout="constrained")
left, middle, right = figure.subplots(1, 3)
for axis, coordinate, name in ((left, 0, "x"), (middle, 1, "y")):
    points = axis.scatter(*plane.T, c=true[..., coordinate].flatten(), s=4, cmap="viridis")
    axis.set(title=f"embeddings, coloured by {name}", xlabel="first direction", ylabel="second direction")
    figure.colorbar(points, ax=axis, label=f"{name} of the dot, px")
right.plot(rmse, marker="o")
right.set(title="error of the prediction probe", xlabel="frame", ylabel="RMSE, px", ylim=(0, 1.1 * rmse.max().item()))
figure.savefig(target, dpi=130)
print(f"drawn: {target}")
