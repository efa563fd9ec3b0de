"""How plots look, and how they get into Markdown.

Matplotlib's object API only: pyplot keeps every figure of the process. The background is opaque
white, so that plots read the same on a light and on a dark page; colours are from the palette of
Okabe and Ito, which colour-blind people tell apart, and no meaning hangs on colour alone.
"""

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, PALE = "#0072B2", "#D55E00", "#595959", "#B5CFE0"


def markdown_image(png: bytes, alt: str) -> str:
    """Markdown that shows ``png`` by itself, without a file or server beside it."""
    text = "".join(" " if character in "[]\\\r\n" else character for character in alt)
    return f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})"


def figure_of(height: float) -> "Figure":
    """An empty figure of the usual width and ``height`` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, height), dpi=100, facecolor="white", layout="constrained")


def label_axes(axes: "Axes", title: str, x: str, y: str) -> None:
    """Title and axis labels, a light grid, no frame."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def png_of(figure: "Figure") -> bytes:
    """The figure as PNG in 64 colours, a quarter of the bytes of full colour.

    The octree keeps a colour that few pixels have, as median cut does not.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(64, method=Image.Quantize.FASTOCTREE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
