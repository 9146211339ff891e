"""`config.check`: what it says about a wrong serve config, and that ours are right."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from config.check import ConfigError, load_serve_config, main, serve_config_paths
from config.settings import ROOT

RIGHT = """\
http_options:
  host: 127.0.0.1
applications:
- name: glimpse
  import_path: graphs.text_to_image:build
  args:
    denoiser:
      threads: 3
  deployments:
  - name: Denoiser
    num_replicas: 2
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    """What is said about a config, without the file's name."""
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_serve_config(path)
    return str(caught.value).replace(f"{path}:", "").splitlines()


def test_a_right_config_is_read(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(RIGHT)
    [application] = load_serve_config(path).applications
    assert application.args.denoiser.threads == 3
    assert application.deployments[0].num_replicas == 2


@pytest.mark.parametrize(
    ("of_model", "of_deployment", "right"),
    [
        ("", "", False),
        ("device: cpu", "", False),
        ("device: cuda", "", True),
        ("", "max_surge_percent: 0", True),
        ("", "max_surge_percent: 100", True),  # who has a GPU to spare
    ],
)
def test_what_an_update_of_a_replica_with_a_gpu_does_is_decided(
    tmp_path: Path, of_model: str, of_deployment: str, right: bool
) -> None:
    text = RIGHT.replace("    denoiser:", f"    model: {{{of_model}}}\n    denoiser:").replace(
        "    num_replicas: 2",
        f"    ray_actor_options: {{num_gpus: 1}}\n    {of_deployment}".rstrip(),
    )
    if right:
        (tmp_path / "serve.yaml").write_text(text)
        load_serve_config(tmp_path / "serve.yaml")
    else:
        [problem] = problems(tmp_path, text)
        assert "an update of 'Denoiser' would wait for a second GPU" in problem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "applications:",
            "aplications:",
            "3: unknown key 'aplications'; did you mean 'applications'?",
        ),
        (
            "  host: 127.0.0.1",
            "  host: 127.0.0.1\n  prot: 80",
            "3: unknown key 'prot' in http_options; did you mean 'port'?",
        ),
        ("  host: 127.0.0.1", "  port: 80", "1: 'host' is missing in http_options"),
        (
            "    num_replicas: 2",
            "    max_ongoing_request: 2",
            "11: unknown key 'max_ongoing_request' in applications[0].deployments[0]; "
            "did you mean 'max_ongoing_requests'?",
        ),
        (
            "    num_replicas: 2",
            "    ray_actor_options: {num_gpu: 1}",
            "11: unknown key 'num_gpu' in applications[0].deployments[0].ray_actor_options; "
            "did you mean 'num_gpus'?",
        ),
        (
            "      threads: 3",
            "      thread: 3",
            "8: unknown key 'thread' in applications[0].args.denoiser; did you mean 'threads'?",
        ),
        (
            "    denoiser:",
            "    qqq: {}\n    denoiser:",
            "7: unknown key 'qqq' in applications[0].args",
        ),
        (
            "  - name: Denoiser",
            "  - name: Denoizer",
            "10: applications[0].deployments[0].name: Input should be 'TextEncoder', 'Denoiser', "
            "'PreviewDecoder', 'ImageCodec', 'Ingress' or 'Fused'; did you mean 'Denoiser'?",
        ),
        (
            "graphs.text_to_image:build",
            "graphs.fused:build",
            "9: applications[0].deployments: graphs.fused:build has no 'Denoiser'; it has Fused",
        ),
        (
            "graphs.text_to_image:build",
            "graphs.fussed:build",
            "5: applications[0].import_path: Input should be 'graphs.text_to_image:build' or "
            "'graphs.fused:build'; did you mean 'graphs.fused:build'?",
        ),
        (
            "    num_replicas: 2",
            "    num_replicas: atuo",
            "11: applications[0].deployments[0].num_replicas: Input should be a valid integer, "
            "unable to parse string as an integer; or Input should be 'auto'; did you mean 'auto'?",
        ),
        (
            "      threads: 3",
            "      threads: 0",
            "8: applications[0].args.denoiser.threads: Input should be greater than or equal to 1",
        ),
        (
            "    num_replicas: 2",
            "    num_replicas: 2\n    num_replicas: 3",
            "12: key 'num_replicas' twice in applications[0].deployments[0]",
        ),
        (
            "  host: 127.0.0.1",
            "  host: 127.0.0.1\n  request_timeout_s: 5",
            "3: http_options.request_timeout_s: "
            "cuts open streams and sessions; leave it out, deadlines are ours",
        ),
        (
            "  host: 127.0.0.1",
            "  host: 0.0.0.0",
            "3: applications: no key is due, and http_options.host is not a loopback address such "
            "as 127.0.0.1: set access.keys_file, or access.allow_anonymous: true if everybody may "
            "use the server",
        ),
        (
            "  host: 127.0.0.1",
            "  host: [127.0.0.1",
            "3: YAML: expected ',' or ']', but got ':'",
        ),
    ],
)
def test_a_problem_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in RIGHT
    assert said in problems(tmp_path, RIGHT.replace(old, new))


@pytest.mark.parametrize("access", ["allow_anonymous: true", "keys_file: /etc/keys.json"])
def test_a_server_for_others_says_who_they_are(tmp_path: Path, access: str) -> None:
    path = tmp_path / "serve.yaml"
    open_to_all = RIGHT.replace("127.0.0.1", "0.0.0.0")
    path.write_text(open_to_all.replace("  args:", f"  args:\n    access: {{{access}}}"))
    assert load_serve_config(path).http_options.host == "0.0.0.0"


def test_every_problem_is_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = RIGHT.replace("threads", "thread").replace("host:", "hots:").replace("name:", "nmae:")
    assert [line.split(":")[0] for line in problems(tmp_path, text)] == [
        "1",
        "2",
        "4",
        "4",
        "8",
        "10",
        "10",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: YAML: 0 documents where one is expected"),
        ("5", "1: file: Input should be a mapping"),
        ("1: 2", "1: file: Keys should be strings"),
        ("<<: {merged: 1}", "1: unknown key 'merged'"),
        ("a: !!python/name:os.system", "1: YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_config_at_all(tmp_path: Path, text: str, said: str) -> None:
    assert any(problem.startswith(said) for problem in problems(tmp_path, text))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "threads",
            "thread",
            "13: unknown key 'thread' in applications[0].args.denoiser; did you mean 'threads'?",
        ),
        ("host: 127.0.0.1", "host: [127.0.0.1", "8: YAML: expected ',' or ']', but got ':'"),
    ],
)
def test_a_config_inside_a_manifest_has_the_lines_of_the_manifest(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    config = textwrap.indent(RIGHT.replace(old, new), "    ")
    manifest = f"kind: Secret\n---\nkind: RayService\nspec:\n  serveConfigV2: |\n{config}"
    assert problems(tmp_path, manifest) == [said]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_serve_config(tmp_path / "none.yaml")


def test_the_command_prints_the_problems_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = tmp_path / "right.yaml", tmp_path / "wrong.yaml"
    right.write_text(RIGHT)
    wrong.write_text(RIGHT.replace("host:", "hots:"))
    assert main([str(right)]) == 0
    assert main([str(right), str(wrong)]) == 1
    assert f"{wrong}:2: unknown key 'hots' in http_options" in capsys.readouterr().out


def test_the_check_loads_neither_ray_nor_torch() -> None:
    code = "import sys, config.check; print({'ray', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("path", serve_config_paths(), ids=lambda path: path.name)
def test_our_serve_configs_are_right_by_both_schemas(path: Path) -> None:
    load_serve_config(path)
    data = list(yaml.safe_load_all(path.read_text()))
    services = [one for one in data if one.get("kind") == "RayService"]
    config = yaml.safe_load(services[0]["spec"]["serveConfigV2"]) if services else data[0]
    ServeDeploySchema.model_validate(config)
