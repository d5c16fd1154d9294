"""timm's own functions read the backbone of a run, and make its features of its images."""

from pathlib import Path

import pytest
import timm
import torch
from harness.pictures import picture
from PIL import Image

import ccscale
from ccscale.config import Model
from ccscale.errors import InputError
from ccscale.export.timm_files import write_timm
from ccscale.model.network import ContrastiveClustering

SIZE = 48


@pytest.mark.parametrize(
    "settings",
    [{"backbone": "test_resnet"}, {"backbone": "test_vit", "normalize": True}],
    ids=["resnet", "vit"],
)
def test_timm_makes_the_features_of_the_run(tmp_path, settings):
    torch.manual_seed(0)
    network = ContrastiveClustering(Model(clusters=4, **settings), SIZE)
    network(torch.rand(8, 3, SIZE, SIZE))  # batch norms have seen something
    network.eval()
    write_timm(network, tmp_path)
    picture(3).convert("RGB").resize((90, 70)).save(tmp_path / "a.png")
    images = ccscale.read_images([tmp_path / "a.png"], SIZE)
    with torch.inference_mode():
        wanted = network.features_of(images)
        whole = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(whole))
        seen = transform(Image.open(tmp_path / "a.png").convert("RGB"))[None]
        assert torch.allclose(seen, (images - network.mean) / network.std, atol=1e-6)
        assert torch.allclose(whole(seen), wanted, atol=1e-5)
        of_a_file = timm.create_model(
            settings["backbone"],
            checkpoint_path=str(Path(tmp_path, "model.safetensors")),
            num_classes=0,
            **({"img_size": SIZE} if settings["backbone"] == "test_vit" else {}),
        ).eval()
        assert torch.allclose(of_a_file(seen), wanted, atol=1e-5)


def test_a_backbone_that_timm_has_not(tmp_path):
    small = ContrastiveClustering(Model(backbone="test_resnet", clusters=4, stem="small"), 32)
    with pytest.raises(InputError, match="timm has no such backbone"):
        write_timm(small, tmp_path)
    with pytest.raises(InputError, match="has no backbone for timm to load"):
        write_timm(ContrastiveClustering(Model(backbone="test_resnet", clusters=4), 32, 7), tmp_path)
    assert not list(tmp_path.iterdir())
