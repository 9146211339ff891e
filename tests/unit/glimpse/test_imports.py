"""What is not loaded where it is not needed, and what unit tests cannot start."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from config.settings import ROOT

if TYPE_CHECKING:
    from glimpse.decoders import TinyVAE

HEAVY = {"torch", "diffusers", "transformers"}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules there are in a new process after a statement."""
    script = (
        f"{statement}\nimport sys\nprint(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_http_edge_loads_neither_torch_nor_ray() -> None:
    loaded = loaded_by(
        "import glimpse.http.app, glimpse.generation, glimpse.request, glimpse.stage, "
        "glimpse.families.conditioning, glimpse.latent_rgb, glimpse.torch_thread, glimpse.direct"
    )
    assert "fastapi" in loaded
    assert not loaded & {*HEAVY, "ray", "safetensors", "config"}


@pytest.mark.parametrize("graph", ["text_to_image", "fused"])
def test_a_graph_is_built_without_torch(graph: str) -> None:
    """The split graph's ingress, too, has no more than this."""
    loaded = loaded_by(f"import graphs.{graph}, deployments.ingress")
    assert "ray" in loaded
    assert not loaded & HEAVY


def test_a_decoder_loads_neither_transformers_nor_the_compiler_and_spoils_neither(
    tiny_sdxl: Path, tiny_vae: TinyVAE
) -> None:
    import torch

    latents = np.linspace(-2, 2, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    with torch.no_grad():
        expected = sha256(np.asarray(tiny_vae.decode([latents])[0]).tobytes()).hexdigest()
    loaded = loaded_by(
        f"""
import sys
from hashlib import sha256
import numpy as np
import torch
from glimpse.decoders import FullVAE, TinyVAE
from glimpse.families.sdxl import ModelSource
from glimpse.lean_imports import lean_imports
torch.set_num_threads(1)
torch.set_grad_enabled(False)
def source(path):
    return ModelSource(path, None, None, torch.float32, torch.device("cpu"))
with lean_imports():
    tiny = TinyVAE(source("{tiny_sdxl}/vae_tiny"), channels_last=False)
    full = FullVAE(source("{tiny_sdxl}"), channels_last=False)
latents = np.linspace(-2, 2, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
full.encode(full.decode([latents])[0])
assert sha256(np.asarray(tiny.decode([latents])[0]).tobytes()).hexdigest() == "{expected}"
assert not {{"transformers", "torch._dynamo"}} & sys.modules.keys()
assert torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)) == 2
import transformers.models.clip
"""
    )
    assert {"diffusers", "transformers"} <= loaded


def test_unit_tests_cannot_start_ray() -> None:
    """Neither outright nor, as most calls would, on first use."""
    loaded_by(
        """
import ray
for start in (ray.init, lambda: ray.put(1)):
    try:
        start()
    except RuntimeError as refusal:
        assert "no-ray-in-unit-tests" in str(refusal)
    else:
        raise AssertionError("Ray has started")
"""
    )
