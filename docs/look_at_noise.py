"""What do the conditions look like? Draws a sequence under each.

    python docs/look_at_noise.py [FIGURE.png]
"""

import sys

from matplotlib.figure import Figure

from jepa.config.compose import compose, register
from jepa.config.search_path import group_options
from jepa.data.stream import Stream
from jepa.prepare import make_plan

FRAMES = (0, 1, 2, 3, 4, 8, 16)
register()
names = [name for name in group_options("dataset/condition") if "photos" not in name]
figure = Figure(figsize=(6.4, 0.92 * len(names)), layout="constrained")
for axes, name in zip(figure.subplots(len(names), len(FRAMES)), names, strict=True):
    world = make_plan(compose([f"+dataset/condition@dataset={name}", "dataset.normalize=false"])).dataset
    states = Stream(world, 0, "train", None, "cpu").next(1).states  # [T, 1, 1, H, W]
    for axis, frame in zip(axes, FRAMES, strict=True):
        axis.imshow(states[frame, 0, 0], cmap="gray", vmin=0, vmax=0.25)
        axis.set(xticks=[], yticks=[])
        if name == names[0]:
            axis.set_title(f"frame {frame}", fontsize=8)
    axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
target = sys.argv[1] if len(sys.argv) > 1 else "noise.png"
figure.savefig(target, dpi=100)
print(f"drawn: {target}")
