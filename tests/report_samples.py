"""A made-up report of a search, and a reader of pages, for the tests of the report."""

from html.parser import HTMLParser
from random import Random

from nasbench.evaluators.outcomes import OUTCOMES
from nasbench.report.html import write_html

CELL = "|nor_conv_3x3~0|+|skip_connect~0|<wide>&co~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|"
LAYERS = ("ghost_module_k3_w0.75", "inverted_residual_se_k5_w1.0", "shuffle_unit_k5_w0.5", "convolution_k3_w1.0")
ERRORS = (
    ("out_of_memory", "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB <device 0>"),
    ("failed", "RuntimeError: Given groups=3, weight of size [8, 1, 3, 3], expected input to have 3 channels"),
    ("timed_out", "time was up in epoch 4 of 12 after 600 s of training"),
    ("failed", None),
)


def latency(median, *, runtime="onnxruntime", precision="float32", unstable=False):
    """A measured latency as the report carries it."""
    return {
        "median": median,
        "p95": round(1.12 * median, 4),
        "iqr": round(0.04 * median, 4),
        "batch": 1,
        "threads": 1,
        "repeats": 200,
        "runtime": runtime,
        "precision": precision,
        "device": "cpu",
        "unstable": unstable,
    }


def candidate(number, rng):
    """One candidate of a search: every sixth fails, every seventh is infeasible, slower ones are better."""
    arch = "/".join("-".join(rng.choice(LAYERS) for _ in range(3)) for _ in range(3))
    macs = rng.randint(400_000, 4_000_000)
    common = {
        "id": number,
        "architecture": arch,
        "seconds": rng.uniform(20, 45),
        "finished_s": 16.0 * (number + 1) + rng.uniform(0, 12),
        "scores": None,
        "error": None,
        "metrics": {},
        "curve": {},
        "attempts": [],
    }
    if number % 6 == 5:
        kind, error = ERRORS[number // 6 % len(ERRORS)]
        attempts = [{"status": kind, "error": error, "seconds": 3.0}] if kind == "out_of_memory" else []
        return common | {"status": kind, "error": error, "attempts": attempts}
    cost = {"latency_ms": round(0.4 + macs / 2.2e6 + rng.uniform(0, 0.2), 3), "macs": macs, "params": macs // 38}
    if number % 7 == 4:
        return common | {"status": "infeasible", "metrics": cost | {"latency_ms": 3.1 + number / 3}}
    accuracy = round(98.9 - 5 * 4e5 / macs - rng.uniform(0, 1.5) - 6 / (number + 2), 3)
    metrics = {"val_acc_pct": accuracy, **cost, "latency_std_ms": 0.05, "size_bytes": 4 * macs // 38 + 9000}
    curve = {"4": accuracy - 9, "8": accuracy - 2, "12": accuracy}
    score = accuracy * cost["latency_ms"] ** -0.07
    return common | {"status": "done", "metrics": metrics, "scores": [score], "curve": curve}


def outcome(kind, meaning, candidates):
    """A row of the outcomes as the report carries it."""
    ended = [one for one in candidates if one["status"] == kind]
    return {
        "kind": kind,
        "count": len(ended),
        "meaning": meaning,
        "retries": sum(len(one["attempts"]) for one in ended),
        "recovered": 0,
        "counts": None if kind in ("done", "stopped") else kind != "infeasible",
        "seconds": sum(one["seconds"] for one in ended),
    }


def stage(name, rank, *, accuracy, ms, size, params, macs, precision="float32", accepted=True, reason=None):
    return {
        "name": name,
        "accepted": accepted,
        "reason": reason,
        "seconds": 21.5,
        "artefact": f"survivors/{rank}/{name}",
        "metrics": {
            "val_acc_pct": accuracy + 0.4,
            "test_acc_pct": accuracy,
            "params": params,
            "macs": macs,
            "size_bytes": size,
            "latency_ms": latency(ms, precision=precision),
            "throughput_per_s": 1000 / ms,
        },
        "note": {},
    }


def survivor(rank, chosen, arch):
    ms, macs, params = chosen["metrics"]["latency_ms"], chosen["metrics"]["macs"], chosen["metrics"]["params"]
    size, accuracy = 4 * params + 9000, chosen["metrics"]["val_acc_pct"] - 0.6
    common = {"rank": rank}
    small = {"params": int(0.62 * params), "macs": int(0.55 * macs)}
    return {
        "rank": rank,
        "candidate": chosen["id"],
        "architecture": arch,
        "baseline": {"runtime": "eager", "latency_ms": latency(2.4 * ms, runtime="eager")} if rank < 3 else None,
        "stages": [
            stage("searched", **common, accuracy=accuracy, ms=ms, size=size, params=params, macs=macs),
            stage("pruned", **common, accuracy=accuracy - 1.12, ms=0.71 * ms, size=int(0.66 * size), **small),
            stage("distilled", **common, accuracy=accuracy - 0.28, ms=0.7 * ms, size=int(0.66 * size), **small),
            stage(
                "quantized",
                **common,
                accuracy=accuracy - (0.31 if rank != 2 else 4.7),
                ms=0.44 * ms,
                size=int(0.2 * size),
                **small,
                precision="int8",
                accepted=rank != 2,
                reason=None if rank != 2 else "test accuracy fell by 4.42 points, more than the 2.00 allowed",
            ),
            stage(
                "compiled",
                **common,
                accuracy=accuracy - (0.31 if rank != 2 else 0.28),
                ms=(0.4 if rank != 2 else 0.64) * ms,
                size=int((0.21 if rank != 2 else 0.67) * size),
                **small,
                precision="int8" if rank != 2 else "float32",
            ),
        ],
    }


def make_report():
    rng = Random(7)
    candidates = [candidate(number, rng) for number in range(36)]
    done = [one for one in candidates if one["status"] == "done"]
    front, best = [], 0.0
    for one in sorted(done, key=lambda one: one["metrics"]["latency_ms"]):
        if one["metrics"]["val_acc_pct"] > best:
            front.append(one)
            best = one["metrics"]["val_acc_pct"]
    chosen = [front[-1], front[len(front) // 2], front[0]]
    chosen[0]["architecture"] = CELL
    measured = [round(rng.uniform(0.3, 2.4), 3) for _ in range(40)]
    return {
        "experiment": {
            "name": "quickstart <v2>",
            "seed": 3,
            "data": {"name": "digits"},
            "space": {"name": "mobile"},
            "controller": {"name": "regularized_evolution", "population": 12, "tournament": 4},
            "device": {"name": "cpu", "threads": 1, "batch": 1, "runtime": "onnxruntime"},
            "objectives": [
                {"metric": "val_acc_pct", "goal": "max", "limit": None},
                {"metric": "latency_ms", "goal": "min", "limit": 3.0},
            ],
            "reward": {"name": "weighted_product", "target": {"latency_ms": 1.0}, "exponent": -0.07},
            "training": {"epochs": 12, "batch_size": 64, "optimizer": "adamw", "learning_rate": 0.003},
            "search": {"candidates": 36, "max_hours": 1.0, "max_failures": 8},
            "executor": {"name": "ray", "workers": 2, "cpus": 1, "gpus": 0},
            "survivors": 3,
            "recipe": [{"prune": {"importance": "l2", "ratio": 0.4}}, {"quantize": {"precision": "int8"}}],
        },
        "environment": {
            **{"python": "3.11.7", "torch": "2.10.0", "onnxruntime": "1.23.0", "ray": "2.52.0", "optuna": "4.6.0"},
            **{
                "machine": "x86_64, AMD EPYC",
                "cores": 2,
                "seed": 3,
                "commit": "2cd100a",
                "started": "2026-01-05 10:00",
            },
            "command": ["nasbench", "search", "my experiments/quickstart.yaml", "--seed", "3"],
        },
        "status": "complete",
        "candidates": candidates,
        "front": [one["id"] for one in reversed(front)],
        "survivors": [
            survivor(rank, one, one["architecture"] if rank > 1 else CELL) for rank, one in enumerate(chosen, start=1)
        ],
        "predictor": {
            "name": "mlp_ensemble",
            "spearman": 0.962,
            "median_error_pct": 4.137,
            "n": 40,
            "protocol": "40 random architectures <measured>, none of them used for fitting",
            "measured_ms": measured,
            "predicted_ms": [round(ms * rng.uniform(0.9, 1.1), 3) for ms in measured],
        },
        "outcomes": [outcome(kind, meaning, candidates) for kind, meaning in OUTCOMES.items()],
        "compute": {
            "device_seconds": 5200.0,
            "training_seconds": 4100.0,
            "search_wall_seconds": 2500.0,
            "utilization": 0.82,
            "pfs_days": 2.13e-6,
            "wall_seconds": 2700.0,
        },
    }


class Page(HTMLParser):
    """Reads a page as a browser would: text outside scripts and styles, attributes, and whether elements nest."""

    VOID = ("meta", "br", "link", "img", "hr", "input")

    def __init__(self, source):
        super().__init__()
        self.open, self.loads, self.words, self.tags = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "xlink:href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)


def render(report, tmp_path):
    path = tmp_path / "report.html"
    write_html(report, path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    source = path.read_text(encoding="utf-8")
    return source, Page(source)


def plots(page):
    return [
        attrs["id"] for tag, attrs in page.tags if tag == "div" and "plotly-graph-div" in (attrs.get("class") or "")
    ]


def trace(figure, name):
    traces = [one for one in figure.data if one.name == name]
    assert len(traces) == 1, [one.name for one in figure.data]
    return traces[0]
