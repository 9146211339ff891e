"""`glimpse.families.source`: which files weights come from. The hub is a folder of its cache."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from config.settings import ROOT
from glimpse.decoders import FullVAE, TinyVAE
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder
from glimpse.families.source import ModelSource

OLD, NEW = "a" * 40, "b" * 40

# For each of some settings prints the sums of the weights of its parts.
LOAD = """
import json, sys
from config.settings import ModelSettings
from deployments.model_source import model_source, tiny_vae_source, vae_source
from glimpse.decoders import FullVAE, TinyVAE
from glimpse.families.sdxl import SDXLNetwork, SDXLTextEncoder

def total(part):
    return sum(float(each.double().sum()) for each in part.state_dict().values())

def sums(settings):
    texts = SDXLTextEncoder(model_source(settings))
    network = SDXLNetwork(model_source(settings))
    full = FullVAE(vae_source(settings), False)
    tiny = TinyVAE(tiny_vae_source(settings), False)
    return [total(part) for part in (*texts._encoders, network._unet, full._vae, tiny._vae)]

print(json.dumps([sums(ModelSettings(device="cpu", **each)) for each in json.loads(sys.argv[1])]))
"""


def weights(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.safetensors"))
    assert len(found) == 5
    return found


def publish(cache: Path, name: str, revision: str, folder: Path, shift: float) -> None:
    """A commit of a repository in a hub's cache, which is what `main` means from now on."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / revision
    for path in folder.rglob("*"):
        if path.is_file():
            target = snapshot / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            if path.suffix == ".safetensors":
                shifted = {key: value + shift for key, value in load_file(path).items()}
                save_file(shifted, target, {"format": "pt"})
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)


@pytest.fixture(scope="module")
def cache(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a VAE and a TinyVAE, of two revisions each."""
    cache = tmp_path_factory.mktemp("hub")
    for revision, shift in ((OLD, 0.0), (NEW, 0.25)):
        publish(cache, "us/model", revision, tiny_sdxl, shift)
        publish(cache, "us/vae", revision, tiny_sdxl / "vae", shift + 1)
        publish(cache, "us/tiny", revision, tiny_sdxl / "vae_tiny", shift)
    return cache


def loaded(cache: Path, *settings: dict[str, str]) -> list[list[float]]:
    """For each of the settings, the sums of the weights of its parts as an application loads them:
    both text encoders, the network, the VAE and the TinyVAE."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(settings)],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sums: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return sums


def test_each_part_has_the_revision_that_the_settings_name(cache: Path) -> None:
    names = {"path": "us/model", "tiny_vae": "us/tiny"}
    pinned = {"revision": OLD, "tiny_vae_revision": OLD}
    newest, old, other, another = loaded(
        cache,
        names,
        names | pinned,
        names | pinned | {"vae_revision": NEW},
        names | pinned | {"vae": "us/vae"},
    )
    assert all(one != two for one, two in zip(old, newest, strict=True))
    assert other == [*old[:3], newest[3], old[4]]
    assert another[:3] == old[:3] and another[4] == old[4]
    assert another[3] not in (old[3], newest[3])


def test_another_vae_has_a_revision_of_its_own(cache: Path) -> None:
    names = {"path": "us/model", "tiny_vae": "us/tiny", "revision": OLD, "vae": "us/vae"}
    newest, pinned, old = loaded(
        cache, names, names | {"vae_revision": NEW}, names | {"vae_revision": OLD}
    )
    assert newest == pinned
    assert newest[3] != old[3]
    assert [*newest[:3], newest[4]] == [*old[:3], old[4]]


def pickled(folder: Path) -> None:
    """The same weights in the format that was usual before safetensors."""
    for path in weights(folder):
        torch.save(load_file(path), path.with_name(OLD_NAMES[path.name]))
        path.unlink()


OLD_NAMES = {
    "model.safetensors": "pytorch_model.bin",
    "diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.bin",
}
PARTS: dict[str, Callable[[ModelSource], Any]] = {
    "text encoders": SDXLTextEncoder,
    "network": SDXLNetwork,
    "vae": lambda source: FullVAE(source, False),
}


SAYS_WHAT_TO_DO = "there are no weights in safetensors files.* write them with save_pretrained"


def at(folder: Path) -> ModelSource:
    return ModelSource(str(folder), None, None, torch.float32, torch.device("cpu"))


@pytest.fixture(scope="module")
def with_pickles(tiny_sdxl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pickles")
    publish(folder, "us/model", OLD, tiny_sdxl, 0)
    [snapshot] = folder.glob("*/snapshots/*")
    pickled(snapshot)
    return snapshot


@pytest.mark.parametrize("load", PARTS.values(), ids=PARTS.keys())
def test_weights_in_pickles_are_not_loaded(
    with_pickles: Path, load: Callable[[ModelSource], Any]
) -> None:
    with pytest.raises(OSError, match=rf" of {with_pickles}: {SAYS_WHAT_TO_DO}"):
        load(at(with_pickles))


def test_nor_are_those_of_previews(with_pickles: Path) -> None:
    folder = with_pickles / "vae_tiny"
    with pytest.raises(OSError, match=f"^{folder}: {SAYS_WHAT_TO_DO}"):
        TinyVAE(at(folder), False)


def test_a_variant_that_is_not_there_is_named(tiny_sdxl: Path) -> None:
    source = dataclasses.replace(at(tiny_sdxl), variant="fp16")
    with pytest.raises(OSError, match="no weights of the variant fp16 in safetensors"):
        SDXLNetwork(source)


def test_a_folder_that_is_not_there_is_another_fault(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        TinyVAE(at(tmp_path / "nowhere"), False)
    assert "safetensors" not in str(caught.value)
