"""A report as a study would make it: every part in use, from invented numbers."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from landscape import style
from landscape.report import Finding, Page, Panel, Section, Table

COMMAND = "landscape compare runs/sgd-seed0.pt runs/sgd-sam-seed0.pt --out results/compare"
SOURCE = {
    "result": "results/compare/interpolation.h5",
    "command": COMMAND,
    "device": "cpu, float32",
    "seed": "0",
    "sha256 of sgd-seed0.pt": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "wall time": "41.2 s",
}


def interpolation_figure() -> go.Figure:
    """Error above loss on the line from one checkpoint through the other; NaN where it was not computed."""
    at = np.linspace(-1, 2, 61)
    test = 0.06 + 0.9 * (1 - np.exp(-((at - 0.7) ** 2) * 0.8))
    train = 0.004 + 0.9 * (1 - np.exp(-((at - 0.5) ** 2) * 0.7))
    test[3] = np.nan
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, scale in ((1, 1.0), (2, 3.2)):
        for name, values, color, dash in (("train", train, style.TRAIN, "solid"), ("test", test, style.TEST, "dash")):
            line = {"color": color, "dash": dash, "width": 2.2}
            figure.add_scatter(
                x=at,
                y=values * scale,
                name=name,
                mode="lines",
                line=line,
                legendgroup=name,
                showlegend=row == 1,
                row=row,
                col=1,
            )
    for x in (0, 1):
        figure.add_vline(x=x, line={"color": style.NEUTRAL, "width": 1, "dash": "dot"})
    return style.layout(figure, ("", "position α  (0 = SGD, 1 = SGD→SAM)"), ("error", "loss (nats)"), height=520)


def eigenvalue_figure() -> go.Figure:
    """Ten largest eigenvalues of two checkpoints, each with its error bar."""
    figure = go.Figure()
    for index, (name, top) in enumerate((("SGD", 41.8), ("SGD→SAM", 12.3))):
        values = top * np.exp(-0.28 * np.arange(10))
        mark = style.mark(index)
        figure.add_scatter(
            x=np.arange(1, 11) + 0.12 * index,
            y=values,
            error_y={"type": "data", "array": 0.12 * values, "thickness": 1.5, "width": 4},
            name=name,
            mode="markers",
            marker=mark.marker(9),
        )
    return style.layout(figure, "rank", "eigenvalue (nats/θ²)", log="y")


def radius_figure(names: tuple[str, ...] = ("SGD", "SGD→SAM", "SAM", "SAM→SGD")) -> go.Figure:
    """Rise of the loss over the radius of a random step, log-log."""
    figure = go.Figure()
    radius = np.logspace(-3, 1, 25)
    for index, name in enumerate(names):
        mark = style.mark(index)
        rise = radius**2 * 30 / (index + 1) ** 1.5
        figure.add_scatter(
            x=radius,
            y=rise,
            name=name,
            mode="lines+markers",
            line=mark.line(),
            marker={**mark.marker(7), "maxdisplayed": 9},
        )
    return style.layout(figure, "radius of the step (‖θ‖)", "rise of the train loss (nats)", log="xy")


def plane_figure() -> go.Figure:
    """Loss on a plane through three checkpoints."""
    side = np.linspace(-2, 2, 51, dtype=np.float32)
    x, y = np.meshgrid(side, side)
    loss = np.log1p(2 * (x - 0.3) ** 2 + 0.7 * (y + 0.2) ** 2 + 0.4 * np.sin(2 * x))
    figure = go.Figure(go.Heatmap(x=side, y=side, z=loss, colorbar={"title": {"text": "loss (nats)"}}))
    where = {"SGD": (-0.9, -0.4), "SGD→SAM": (0.4, -0.1), "SAM": (1.1, 0.9)}
    for index, (name, (left, up)) in enumerate(where.items()):
        marker = {**style.mark(index).marker(11), "color": "white", "line": {"color": "black", "width": 1.5}}
        figure.add_scatter(x=[left], y=[up], name=name, mode="markers", marker=marker)
    return style.layout(figure, "direction u (θ)", "direction v (θ)", height=480)


def bar_figure() -> go.Figure:
    """Test error over seeds of each method."""
    names = ("SGD", "SGD→SAM", "SAM", "PSAM")
    heights = np.array([0.0652, 0.0581, 0.0574, 0.0592])
    bars = go.Bar(
        x=list(names),
        y=heights,
        marker={"color": [style.mark(index).color for index in range(4)]},
        error_y={"type": "data", "array": [0.003, 0.002, 0.0025, 0.002], "thickness": 1.5},
    )
    return style.layout(go.Figure(bars), "method", "test error", height=360)


def sample_page() -> Page:
    """Make a report as a study would, with every part in use."""
    checkpoints = Table(
        "",
        (
            "checkpoint",
            "method",
            "seed",
            "steps",
            "passes",
            "train loss (nats)",
            "train error",
            "test error",
            "made from",
        ),
        (
            ("sgd-seed0.pt", "sgd", 0, 39200, 39200, 0.00213, 0.0, 0.0652, None),
            ("sgd-sam-seed0.pt", "sgd-sam", 0, 39200, 49000, 0.0041, 0.0002, 0.0581, "sgd-seed0@29400.pt"),
            ("sam-seed0.pt", "sam", 0, 39200, 78400, 0.00518, 0.0004, 0.0574, None),
            (
                "sam-sgd-seed0.pt",
                "sam-sgd",
                0,
                39200,
                68600,
                0.0000123,
                float("nan"),
                float("inf"),
                "sam-seed0@29400.pt",
            ),
        ),
        "A pass is one forward and backward pass over a batch. Errors are shares of 10 000 test images.",
    )
    spectrum = Table(
        "Eigenvalues",
        ("rank", "SGD λ (nats/θ²)", "± SGD", "SGD→SAM λ (nats/θ²)", "± SGD→SAM"),
        tuple((k + 1, 41.8 * 0.75**k, 5.0 * 0.75**k, 12.3 * 0.75**k, 1.5 * 0.75**k) for k in range(10)),
    )
    line = Table(
        "Line", ("α", "train error", "test error"), tuple((-1 + k / 100, k / 301, 1 - k / 301) for k in range(301))
    )
    return Page(
        title="SGD against SGD→SAM on digits/resnet8",
        lead="Two branches of one run, forked after three quarters of the training, compared over three seeds.",
        findings=(
            Finding(
                "Which generalises better?",
                "SGD→SAM, by 0.7 percentage points (0.4–1.0 over 3 seeds)",
                "test error 0.0581 against 0.0652",
            ),
            Finding(
                "Which is flatter?", "SGD→SAM, by a factor 3.4 (2.9–4.1 over 3 seeds)", "λ₁ 12.3 against 41.8 nats/θ²"
            ),
            Finding(
                "Is there a barrier between them?",
                "No: the loss never rises above both ends",
                "largest rise 0.0003 nats, at α = 0.35",
            ),
            Finding(
                "Which side of the valley is steep?",
                "The side away from SGD→SAM",
                "loss at α = −0.5 is 2.7 times the loss at α = 1.5",
            ),
            Finding(
                "How far apart are they?",
                "4.2 % of the length of the weights",
                "‖θ_a − θ_b‖ = 1.93, ‖θ_a‖ = 46.1; cosine 0.9991",
            ),
        ),
        tables=(checkpoints,),
        sections=(
            Section(
                "Between the two",
                "What happens to loss and error on the straight line through both checkpoints?",
                (
                    "Both lie in one valley: no barrier at any of three seeds.",
                    "SGD sits on the steep side; test error is lowest beyond SGD→SAM.",
                ),
                (
                    Panel(
                        "Loss and error along the line",
                        interpolation_figure(),
                        "61 points from α = −1 to 2. BatchNorm statistics recomputed at each point. The gap "
                        "in the test curve at α = −0.85 was not computed. Dotted lines mark the checkpoints.",
                        "landscape interpolate runs/sgd-seed0.pt runs/sgd-sam-seed0.pt --points 61",
                        "Test error falls from 0.065 at SGD to 0.058 at SGD→SAM and stays low beyond it.",
                        line,
                        SOURCE,
                    ),
                    Panel(
                        "Loss on a plane through three checkpoints",
                        plane_figure(),
                        "51 × 51 points; the plane is spanned by the two differences from SGD.",
                        "landscape compare runs/*.pt --plane --points 51",
                        source=SOURCE,
                    ),
                ),
            ),
            Section(
                "Sharpness",
                "How strongly does the loss curve at each checkpoint?",
                ("The largest eigenvalue at SGD→SAM is 3.4 times smaller.",),
                (
                    Panel(
                        "Largest eigenvalues of the Hessian",
                        eigenvalue_figure(),
                        "Lanczos with 40 steps; bars are one standard deviation over 3 seeds.",
                        "landscape hessian runs/sgd-seed0.pt runs/sgd-sam-seed0.pt --top 10",
                        data=spectrum,
                        source=SOURCE,
                    ),
                    Panel(
                        "Rise of the loss with distance",
                        radius_figure(),
                        "Mean over 20 random directions, filter-normalised.",
                        "landscape asymmetry runs/sgd-seed0.pt",
                        source=SOURCE,
                    ),
                ),
            ),
            Section(
                "Test error",
                "Does flatness go with lower test error?",
                (),
                (
                    Panel(
                        "Test error by method",
                        bar_figure(),
                        "Mean and one standard deviation over 3 seeds.",
                        "landscape study pairs --out results/pairs",
                    ),
                ),
            ),
        ),
        warnings=(
            "sam-sgd-seed0.pt: test loss is not finite; its columns are left out of the means.",
            "The 9th and 10th eigenvalue at SGD have a residual above 1e-3: run again with --steps 80.",
        ),
        provenance=(
            Table(
                "Software",
                ("what", "version"),
                (("loss-landscape-toolkit", "0.1.0"), ("torch", "2.13.0"), ("python", "3.11.9")),
            ),
            Table(
                "Inputs",
                ("file", "bytes", "SHA-256"),
                (
                    ("sgd-seed0.pt", 312448, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
                    ("sgd-sam-seed0.pt", 312448, "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"),
                ),
            ),
        ),
    )
