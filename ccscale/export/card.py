"""The model card: ``README.md`` of an exported network, with YAML metadata in Hugging Face's format.

What is not known, as a licence that nobody gave, is said to be unknown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ccscale.config import Config, Model
from ccscale.model.named_weights import NAMED
from ccscale.unimported import timm

FILE = "README.md"

SCORES = {
    "acc": "ACC (one-to-one matching of clusters and labels)",
    "nmi": "NMI",
    "ari": "ARI",
}
OTHERS = {
    "information": "information of the assignments, in nats",
    "confidence": "mean confidence",
    "effective_clusters": "clusters in use, weighed by their sizes",
}
_MADE_WITH = "https://arxiv.org/abs/2009.09687"

# How each format is used.
_DECODED = """from PIL import Image
images = np.array(Image.open("a.jpg").convert("RGB"))[None]  # (1, height, width, 3) uint8
"""
_DECODED_CHANNELS = """import tifffile
image = tifffile.imread("a.tif").astype(np.float32)  # (C, height, width)
images = np.moveaxis(image, 0, -1)[None]  # (1, height, width, C), the file's own numbers
"""
USE = {
    "safetensors": """import ccscale
network = ccscale.load("{out}")
images = ccscale.read_images(["a.jpg", "b.png"], network.size)
clusters, confidence = network.predict(images)
features = network(images).features
""",
    "onnx": f"""import numpy as np, onnxruntime
{_DECODED}session = onnxruntime.InferenceSession("{{out}}/model.onnx")
cluster, confidence, features = session.run(None, {{{{"images": images}}}})
""",
    "torch-export": f"""import numpy as np, torch
{_DECODED}network = torch.export.load("{{out}}/model.pt2").module()
cluster, confidence, features = network(torch.from_numpy(images))
""",
    "timm": """import timm
from PIL import Image
backbone = timm.create_model("local-dir:{out}", pretrained=True).eval()  # hf-hub:OWNER/NAME on the Hub
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(backbone))
features = backbone(transform(Image.open("a.jpg").convert("RGB"))[None])
""",
}
LIBRARIES = {"onnx": "onnx", "timm": "timm"}  # as the Hub calls them; else ccscale


@dataclass(frozen=True)
class Card:
    """What a model card tells.

    Attributes
    ----------
    name
        Of the exported folder.
    format
        A key of `USE`.
    config
        Of the run.
    facts
        What the network's ``config.json`` holds: ``step``, ``epoch``, ``data``.
    clusters, width
        K of the head that serves; D of the features.
    evaluation
        What the run's ``evaluation.json`` tells of the same network; empty where it was not evaluated.
    license
        As Hugging Face abbreviates it; None: nobody said.
    """

    name: str
    format: str
    config: Config
    facts: Mapping[str, Any]
    clusters: int
    width: int
    evaluation: Mapping[str, Any]
    license: str | None = None

    def text(self) -> str:
        """Return the file's content."""
        return f"---\n{self._head()}\n---\n\n{self._body()}"

    def _head(self) -> str:
        data, evaluation = str(self.facts.get("data", "unknown")), self.evaluation
        scores = [
            EvalResult(
                task_type="image-clustering",
                dataset_type=_slug(data),
                dataset_name=data,
                dataset_split=", ".join(evaluation["splits"]),
                metric_type=kind,
                metric_name=title,
                metric_value=round(evaluation[kind], 4),
            )
            for kind, title in SCORES.items()
            if kind in evaluation
        ]
        return ModelCardData(
            base_model=known.hf_hub_id if (known := _timms(self.config)) else None,
            eval_results=scores or None,
            library_name=LIBRARIES.get(self.format, "ccscale"),
            license=self.license or "unknown",
            model_name=self.name,
            pipeline_tag="image-feature-extraction",
            tags=["clustering", "image-clustering", "contrastive-clustering", "unsupervised"],
        ).to_yaml()

    def _body(self) -> str:
        config, facts = self.config, self.facts
        frozen = {"none": "trained further", "all": "not trained further"}.get(
            str(config.model.freeze), f"trained further behind the first {config.model.freeze} stages"
        )
        start = "another network of ccscale" if config.train.start else "these weights"
        numbers = "width" in facts and not facts.get("frozen")  # it has no backbone
        side = config.views.size
        takes = (
            "features, no images"
            if numbers
            else f"whole images, resized to {side} x {side} pixels, {_kind(config.model)}"
        )
        gives = f"{self.width:,} features"
        if self.format != "timm":
            gives = f"a cluster (0 to {self.clusters - 1}), a confidence (0 to 1), {gives}"
        of = "The backbone of a network that puts" if self.format == "timm" else "Puts"
        return f"""# {self.name}

{of} images into {self.clusters:,} clusters, without labels: [Contrastive Clustering]({_MADE_WITH}), by
ccscale {version("ccscale")}.

| | |
|---|---|
| Takes | {takes} |
| Gives | {gives} |
| Backbone | `{config.model.backbone}` |
| Its weights, before | {seen(config)} |
| Trained | began with {start}; {frozen}; step {facts.get("step", 0):,}, epoch {facts.get("epoch", 0)} |
| Data | `{facts.get("data", "unknown")}`, splits {", ".join(config.data.splits)} |

## Use

```python
{self._use()}```

## Figures

{self._figures()}

## Licence

Of this network: {self.license or "unknown; whoever made it did not say"}. Of the images that it was trained on:
unknown; ask whoever has them. Of the weights that the backbone began with: see above.

## Limits

A cluster is what looked alike to the network, and no class with a meaning of its own: look at its images before
you rely on it. An image of a kind that was not in the data is put into a cluster, too. The confidence says too
much of how often it is right; `ccscale evaluate` calibrates it.
"""

    def _use(self) -> str:
        """Return how the format is used; of channels Pillow would not read the images."""
        text = USE[self.format].format(out=self.name, size=self.config.views.size)
        if self.config.model.of_channels:
            text = text.replace("network.size)", "network.size, network.settings)").replace("png", "tif")
            text = text.replace(_DECODED, _DECODED_CHANNELS).replace("a.jpg", "a.tif")
        return text

    def _figures(self) -> str:
        found = self.evaluation
        if not found:
            return (
                "Not evaluated: nothing is known of how good it is. `ccscale evaluate` measures a run, with labels "
                "or without."
            )
        rows = [(title, found[kind]) for kind, title in SCORES.items() if kind in found]
        rows += [
            (f"{title} of k-means on the same features", found["k_means"][kind])
            for kind, title in SCORES.items()
            if kind in found.get("k_means", {})
        ]
        stability = found.get("stability", {}).get("stability")
        rows += [("stability (kappa of two views)", stability)] if stability is not None else []
        rows += [(title, found[kind]) for kind, title in OTHERS.items() if kind in found]
        where = f"On {found['images']:,} images of the splits {', '.join(found['splits'])}"
        labels = (
            f", {found['labelled']:,} of them with a label. Labels were used to measure, and for nothing else"
        )
        lines = [
            f"{where}{labels if found.get('labelled') else '; there are no labels'}.",
            "",
            "| | |",
            "|---|---|",
        ]
        return "\n".join([*lines, *(f"| {title} | {value:.3f} |" for title, value in rows)])


def _kind(model: Model) -> str:
    """Return what a network's images are."""
    return f"{model.in_chans} channels of {model.pixels.type}" if model.of_channels else "RGB"


def seen(config: Config) -> str:
    """Return what the backbone's first weights had seen, and whose they are, as far as that is known."""
    model = config.model
    if model.weights in NAMED:
        return NAMED[model.weights].seen
    if model.weights is not None:
        file = model.weights.rpartition("/")[2]
        return f"those in a file `{file}`; what they have seen is unknown, and so is their licence"
    if (known := _timms(config)) is None:
        return "random numbers: they have seen nothing"
    tag = f"{known.architecture}.{known.tag}" if known.tag else known.architecture
    licence = f"licence {known.license}" if known.license else "timm tells no licence of them"
    return f"timm's weights `{tag}`, whose name tells what they have seen; {licence}"


def _timms(config: Config) -> timm.models.PretrainedCfg | None:
    """Return what timm tells of the weights that the backbone began with, where they are timm's."""
    model = config.model
    return timm.get_pretrained_cfg(model.backbone) if model.pretrained and model.weights is None else None


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "unknown"
