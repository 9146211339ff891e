"""What the project's own files promise one another."""

import os
import re
import subprocess
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from config.settings import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text().splitlines()

# Written in two pieces, so that this file does not name them itself.
REGISTRY_HOSTS = [
    "pypi" ".org",
    "pythonhosted" ".org",
    "download.pytorch" ".org",
    "npmjs" ".org",
    "npmjs" ".com",
    "debian" ".org",
    "docker" ".io",
    "ghcr" ".io",
    "quay" ".io",
    "nvcr" ".io",
]  # fmt: skip


def output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_newest_version_in_the_changelog_is_the_projects() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d\S*)\]", changelog, re.MULTILINE)
    assert versions[0] == PROJECT["version"]


def test_the_lock_has_one_exact_public_version_a_line() -> None:
    assert LOCK[0].startswith("# Made by `make lock`")
    for line in LOCK[1:]:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line


def test_the_lock_satisfies_every_range() -> None:
    locked = {
        canonicalize_name(name): version for name, version in (x.split("==") for x in LOCK[1:])
    }
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is locked"


def test_make_help_tells_of_every_target() -> None:
    [phony] = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    told = {line.split()[0] for line in output("make", "--no-print-directory", "help").splitlines()}
    assert told == set(phony.split())


def test_ci_runs_what_people_run() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().endswith("\nmake check\nmake test\n")
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["check"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


def test_actions_are_pinned_by_commit() -> None:
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    for action in re.findall(r"uses: (\S+)", workflow):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action


def test_no_file_names_a_package_registry() -> None:
    pattern = "|".join(map(re.escape, REGISTRY_HOSTS))
    found = subprocess.run(
        ["git", "grep", "--untracked", "-nIiE", pattern], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 1, found.stdout + found.stderr
