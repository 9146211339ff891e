"""The Kubernetes manifest and image: against KubeRay's CRD, the profile they serve and the lock."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from config.check import load_serve_config
from config.settings import ROOT
from tests.variables import variables

HERE = Path(__file__).parent
MANIFEST = ROOT / "config/kuberay/rayservice.yaml"
DOCKERFILE = (ROOT / "config/kuberay/Dockerfile").read_text()
PROFILE = ROOT / "config/profiles/sdxl_split.yaml"

CRD = jsonschema.Draft202012Validator(json.loads((HERE / "rayservice_crd.json").read_text()))


@pytest.fixture
def service() -> Any:
    """The RayService of the manifest."""
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    assert [one["kind"] for one in documents] == ["PersistentVolumeClaim", "RayService"]
    # A deep copy, for YAML's aliases are one object in several places.
    return json.loads(json.dumps(documents[1]))


@pytest.fixture
def cluster(service: Any) -> Any:
    return service["spec"]["rayClusterConfig"]


def groups(cluster: Any) -> list[Any]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def container(group: Any) -> Any:
    [only] = group["template"]["spec"]["containers"]
    return only


def ports(group: Any) -> Any:
    return container(group)["ports"]


def limits(group: Any) -> Any:
    return container(group)["resources"]["limits"]


def locked(name: str) -> str:
    [version] = re.findall(rf"^{name}==(.+)$", (ROOT / "requirements.lock").read_text(), re.M)
    return str(version)


def test_the_manifest_is_right_by_the_crd(service: Any) -> None:
    CRD.validate(service)


@pytest.mark.parametrize(
    ("place", "key", "value", "said"),
    [
        ("spec", "excludeHeadPodFromServeSvcs", True, "excludeHeadPodFromServeSvcs"),
        ("spec", "rayClusterDeletionDelaySeconds", "600", "'600' is not of type 'integer'"),
        ("spec.rayClusterConfig.authOptions", "mode", "tokens", "'tokens' is not one of"),
        ("spec.rayClusterConfig.workerGroupSpecs.1", "minReplica", 0, "minReplica"),
        (
            "spec.rayClusterConfig.workerGroupSpecs.1.template.spec.containers.0",
            "resource",
            {},
            "resource",
        ),
        (
            "spec.rayClusterConfig.headGroupSpec.template.spec.containers.0.resources.limits",
            "memory",
            "8 gigabytes",
            "8 gigabytes",
        ),
    ],
)
def test_the_crd_refuses_a_wrong_manifest(
    service: Any, place: str, key: str, value: Any, said: str
) -> None:
    node = service
    for part in place.split("."):
        node = node[int(part) if part.isdigit() else part]
    node[key] = value
    with pytest.raises(jsonschema.ValidationError, match=re.escape(said)):
        CRD.validate(service)


def test_a_missing_field_is_refused(service: Any) -> None:
    del service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]
    with pytest.raises(jsonschema.ValidationError, match="'template' is a required property"):
        CRD.validate(service)


def test_it_serves_the_profile(service: Any) -> None:
    """One application, written down twice because Kubernetes wants it inside; they may not part."""
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    profile = yaml.safe_load(PROFILE.read_text())
    assert served.pop("http_options") == {**profile.pop("http_options"), "host": "0.0.0.0"}
    access = served["applications"][0]["args"].pop("access")
    assert served == profile
    assert access == {"keys_file": "/etc/glimpse/keys.json"}


def test_every_worker_has_the_keys_where_the_application_looks_for_them(cluster: Any) -> None:
    [application] = load_serve_config(MANIFEST).applications
    for group in cluster["workerGroupSpecs"]:
        [mount] = [one for one in container(group)["volumeMounts"] if one["name"] == "keys"]
        [volume] = [one for one in group["template"]["spec"]["volumes"] if one["name"] == "keys"]
        assert mount["readOnly"] and volume["secret"] == {"secretName": "glimpse-keys"}
        assert f"{mount['mountPath']}/keys.json" == application.args.access.keys_file
    assert "secret generic glimpse-keys --from-file keys.json" in MANIFEST.read_text()


def test_workers_are_what_the_service_leads_to(service: Any, cluster: Any) -> None:
    config = load_serve_config(MANIFEST)
    assert service["spec"]["excludeHeadPodFromServeSvc"]
    assert config.proxy_location == "EveryNode"
    for group in cluster["workerGroupSpecs"]:
        assert {"name": "serve", "containerPort": config.http_options.port} in ports(group)


def test_the_workers_have_room_for_every_replica(cluster: Any) -> None:
    [application] = load_serve_config(MANIFEST).applications
    cpu, gpu = cluster["workerGroupSpecs"]
    assert "nvidia.com/gpu" not in limits(cpu)
    free_cpus = float(limits(cpu)["cpu"])
    free_gpus = float(gpu["maxReplicas"] * int(limits(gpu)["nvidia.com/gpu"]))
    for deployment in application.deployments:
        options, scaling = deployment.ray_actor_options, deployment.autoscaling_config
        assert options and options.num_cpus, f"{deployment.name} does not say what it needs"
        replicas = scaling.max_replicas if scaling else deployment.num_replicas
        assert isinstance(replicas, int)
        assert options.num_cpus <= int(limits(gpu)["cpu"])
        if options.num_gpus:
            free_gpus -= replicas * options.num_gpus
        else:
            free_cpus -= replicas * options.num_cpus
    assert free_cpus >= 0
    assert free_gpus >= 0


def test_an_old_cluster_outlives_what_it_has_begun(service: Any) -> None:
    [application] = load_serve_config(MANIFEST).applications
    deadline_s = application.args.ingress.deadline_s
    assert service["spec"]["rayClusterDeletionDelaySeconds"] > deadline_s


def test_nothing_runs_as_root_or_on_the_head(cluster: Any) -> None:
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in groups(cluster):
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"]
        assert container(group)["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_every_version_is_that_of_the_lock_and_the_project(cluster: Any) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cluster["rayVersion"] == locked("ray")
    assert {container(group)["image"] for group in groups(cluster)} == {
        f"glimpse:{project['version']}"
    }
    assert f"FROM rayproject/ray:{locked('ray')}-py311-gpu\n" in DOCKERFILE


def test_the_image_has_all_that_the_application_is_made_of(cluster: Any) -> None:
    env = dict(re.findall(r"^(?:ENV|   ) (RAY_(?:SERVE|AUTH)_\w+)=(\S+)", DOCKERFILE, re.M))
    assert env | {"RAY_AUTH_MODE": "token"} == variables(ROOT / "config/serve.env")
    # KubeRay sets both the mode and the token. With the mode alone Ray would not start.
    assert "RAY_AUTH_MODE" not in env
    assert cluster["authOptions"] == {"mode": "token"}
    assert "RAY_AUTH" not in MANIFEST.read_text()
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", DOCKERFILE, re.M)
    sources = {source for line in copied for source in line.split()}
    code = "".join(path.read_text() for path in ROOT.glob("deployments/*.py"))
    read = set(re.findall(r'ROOT / "(\w+)"', code))
    assert "playground" in read
    assert sources >= read | {"config", "deployments", "glimpse", "graphs", "models"}
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_weights_are_kept_on_the_volume(cluster: Any) -> None:
    claim = next(yaml.safe_load_all(MANIFEST.read_text()))
    gpu = cluster["workerGroupSpecs"][1]
    [_, volume] = gpu["template"]["spec"]["volumes"]
    [_, mount] = container(gpu)["volumeMounts"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert mount["name"] == volume["name"]
    assert f"HF_HOME={mount['mountPath']} " in DOCKERFILE
