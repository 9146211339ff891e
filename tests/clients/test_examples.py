"""The files of examples/, run as their users run them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from config.settings import ROOT
from tests.integration.application import Application

EXAMPLES = ROOT / "examples"
STREAM = [f"preview {step} of 20" for step in (1, 5, 10, 15)] + ["final 20 of 20"]


def run(application: Application, folder: Path, *command: str | Path) -> list[str]:
    """The lines that it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "GLIMPSE_URL": application.url},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


def check_fal(lines: list[str]) -> None:
    *before, first, second, third = lines
    assert before == ["run: 128 x 128", *(f"stream: {event}" for event in STREAM)]
    for seed, line in enumerate((first, second, third)):
        assert re.fullmatch(rf"realtime: \d{{4,}} bytes of {seed}", line)


def test_fals_python_client_over_plain_http(application: Application, tmp_path: Path) -> None:
    check_fal(run(application, tmp_path, sys.executable, EXAMPLES / "fal_python_http.py"))


def test_fals_javascript_client(
    application: Application, tmp_path: Path, node_modules: Path
) -> None:
    check_fal(run_node(application, tmp_path, node_modules, "fal_javascript.mjs"))


def check_openai(lines: list[str], folder: Path) -> None:
    assert lines == ["image_generation.partial_image"] * 3 + ["image_generation.completed"]
    check_pictures(folder, "PNG", (128, 128), "windmill.png", "windmill-night.png")


def check_pictures(folder: Path, kind: str, size: tuple[int, int], *names: str) -> None:
    for name in names:
        with Image.open(folder / name) as picture:
            assert (picture.format, picture.size) == (kind, size)


def test_openais_python_client(application: Application, tmp_path: Path) -> None:
    check_openai(
        run(application, tmp_path, sys.executable, EXAMPLES / "openai_images.py"), tmp_path
    )


def run_node(application: Application, folder: Path, node_modules: Path, name: str) -> list[str]:
    (folder / "node_modules").symlink_to(node_modules)
    shutil.copy(EXAMPLES / name, folder)  # Node looks for packages beside it
    return run(application, folder, "node", name)


def test_openais_javascript_client(
    application: Application, tmp_path: Path, node_modules: Path
) -> None:
    lines = run_node(application, tmp_path, node_modules, "openai_javascript.mjs")
    check_openai(lines, tmp_path)


def test_the_ai_sdk(application: Application, tmp_path: Path, node_modules: Path) -> None:
    lines = run_node(application, tmp_path, node_modules, "ai_sdk.mjs")
    assert lines == ["windmill.jpg image/jpeg", "windmill-night.jpg image/jpeg"]
    check_pictures(tmp_path, "JPEG", (168, 96), "windmill.jpg", "windmill-night.jpg")


def test_litellm(
    application: Application, tmp_path: Path, client_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    lines = run(application, tmp_path, client_python, EXAMPLES / "litellm_images.py")
    assert lines == ["windmill.png", "windmill-night.png"]
    check_pictures(tmp_path, "PNG", (128, 128), *lines)


def test_a_row_of_previews(application: Application, tmp_path: Path) -> None:
    out = tmp_path / "row.png"
    run(
        application,
        tmp_path,
        *(sys.executable, EXAMPLES / "preview_row.py", "a windmill", out),
        *("--url", application.url),
    )
    with Image.open(out) as row:
        assert row.size == (5 * (128 + 8) - 8, 128)


@pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq here")
class TestShell:
    def test_curl(self, application: Application, tmp_path: Path) -> None:
        assert run(application, tmp_path, "sh", EXAMPLES / "curl.sh") == STREAM
        with Image.open(tmp_path / "lighthouse.jpg") as picture:
            assert (picture.format, picture.size) == ("JPEG", (128, 128))

    def test_websocat(
        self, application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Beside Python, because a package of Python's index has it.
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        lines = run(application, tmp_path, "sh", EXAMPLES / "websocat.sh")
        assert [line.partition(",")[0] for line in lines] == [f"final: seed {n}" for n in range(3)]
