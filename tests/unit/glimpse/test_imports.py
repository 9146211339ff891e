"""What is not loaded where it is not needed, and what unit tests cannot start."""

import subprocess
import sys

from config.settings import ROOT

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


def test_a_graph_is_built_without_torch() -> None:
    """The split graph's ingress, too, has no more than this."""
    loaded = loaded_by("import graphs.text_to_image, graphs.fused, deployments.ingress")
    assert "ray" in loaded
    assert not loaded & HEAVY


def test_the_counter_of_places_starts_without_serve() -> None:
    """Requests wait for a new one. Ray itself is there in any actor."""
    assert not loaded_by("import deployments.shared") & {*HEAVY, "ray", "fastapi", "config"}


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
