"""The files for clusters: valid by Kubernetes' own schemas, and every optitune command within them parses."""

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from optitune.cli.main import optitune

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
FILES = sorted((ROOT / "docs" / "kubernetes").glob("*.yaml"))
SCRIPT = ROOT / "docs" / "slurm" / "workers.sbatch"
MANIFESTS = [(path.name, manifest) for path in FILES for manifest in yaml.safe_load_all(path.read_text("utf-8"))]

each_manifest = pytest.mark.parametrize(
    "manifest", [manifest for _, manifest in MANIFESTS], ids=[f"{name}-{each['kind']}" for name, each in MANIFESTS]
)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod that a manifest makes; empty where it makes none."""
    spec: dict[str, Any] = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod_of(manifest).get("containers", []), *pod_of(manifest).get("initContainers", [])]


def parse(words: list[str]) -> click.Context:
    """Read a command line as the program does, and run nothing."""
    # click keeps the help option of a command's first context, and only the group says that it is -h, too
    group = optitune.make_context("optitune", [], resilient_parsing=True)
    command = optitune.get_command(group, words[0])
    assert command is not None, words[0]
    return command.make_context(words[0], words[1:], parent=group)


def lines(text: str) -> Iterator[str]:
    """The lines of a shell script, those that go on joined, without comments."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.lstrip().startswith("#"):
            yield line


def commands(text: str) -> list[list[str]]:
    """The optitune command lines in a shell script, with a number in the place of every variable."""
    calls = [found[1] for line in lines(text) if (found := re.search(r"(?:^|[\s'/])optitune ([a-z].*)", line))]
    # up to a redirection, a pipe, or the quote that ends what ssh is to run
    ends = [re.split(r"\s(?:[|&;<>]|2>)|'$", call)[0] for call in calls]
    return [shlex.split(re.sub(r"\$\w+", "4", call)) for call in ends]


@each_manifest
def test_a_manifest_is_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_check_finds_what_is_wrong() -> None:
    (good,) = [manifest for name, manifest in MANIFESTS if name == "workers.yaml"]
    pod = {**pod_of(good), "restartPolice": "Never"}
    bad = {**good, "spec": {**good["spec"], "template": {"spec": pod}}}
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolice"):
        kubernetes_validate.validate(bad, kubernetes_validate.latest_version(), strict=True)


@each_manifest
def test_a_manifests_commands_parse(manifest: dict[str, Any]) -> None:
    for container in containers(manifest):
        if container["image"].startswith("optitune:"):
            parse(container["args"])


@each_manifest
def test_what_a_manifest_refers_to_is_there(manifest: dict[str, Any]) -> None:
    made = {(each["kind"], each["metadata"]["name"]) for _, each in MANIFESTS}
    pod = pod_of(manifest)
    volumes = {each["name"] for each in pod.get("volumes", [])}
    volumes |= {each["metadata"]["name"] for each in manifest.get("spec", {}).get("volumeClaimTemplates", [])}
    for container in containers(manifest):
        for source in container.get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in made
        for entry in container.get("env", []):
            if "valueFrom" in entry:
                assert f"create secret generic {entry['valueFrom']['secretKeyRef']['name']} " in PAGE
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


@each_manifest
def test_no_manifest_holds_a_password(manifest: dict[str, Any]) -> None:
    assert manifest["kind"] != "Secret"
    for container in containers(manifest):
        for entry in container.get("env", []):
            assert "PASSWORD" not in entry["name"] or "value" not in entry
    assert (
        "OPTITUNE_STORAGE" not in manifest.get("data", {})
        or ":" not in re.findall(r"//(.*)@", manifest["data"]["OPTITUNE_STORAGE"])[0]
    )


@each_manifest
def test_no_container_has_more_rights_than_it_needs(manifest: dict[str, Any]) -> None:
    for container in containers(manifest):
        assert pod_of(manifest)["securityContext"]["runAsNonRoot"] is True
        assert pod_of(manifest)["securityContext"]["runAsUser"] > 0
        assert pod_of(manifest)["automountServiceAccountToken"] is False
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_the_study_is_made_without_training_and_the_workers_join_it() -> None:
    (study,) = [containers(manifest)[0]["args"] for name, manifest in MANIFESTS if name == "study.yaml"]
    (job,) = [manifest for name, manifest in MANIFESTS if name == "workers.yaml"]
    worker = containers(job)[0]
    made, joined = parse(study).params, parse(worker["args"]).params
    assert made["workers"] == 0
    assert joined["study"] == made["study"]
    # a container sees all cores of its node, so the number must be said
    assert str(joined["workers"]) == worker["resources"]["limits"]["cpu"]


def test_the_image_has_what_the_storage_needs() -> None:
    text = (ROOT / "docs" / "kubernetes" / "Dockerfile").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found = re.search(r"/src\[(\w+)\]", text)
    assert found is not None
    assert found[1] in extras
    user = re.search(r"USER (\d+)", text)
    assert user is not None
    for name, manifest in MANIFESTS:
        if name in ("study.yaml", "workers.yaml"):
            assert pod_of(manifest)["securityContext"]["runAsUser"] == int(user[1])


def test_the_slurm_script_is_sound() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    text = SCRIPT.read_text(encoding="utf-8")
    options = re.findall(r"^#SBATCH (--[\w-]+)(?:=(\S+))?$", text, re.M)
    # one that comes after the first command is not read
    assert len(options) == text.split("set -euo")[0].count("#SBATCH") == text.count("#SBATCH")
    assert dict(options)["--signal"].startswith("TERM@")
    (words,) = commands(text)
    assert words[0] == "worker"
    assert parse(words).params["workers"] == 4


@pytest.mark.parametrize(
    "words", commands("\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S))), ids=lambda words: " ".join(words)
)
def test_the_pages_commands_parse(words: list[str]) -> None:
    parse(words)


def test_the_page_names_every_file() -> None:
    for path in (*FILES, SCRIPT, ROOT / "docs" / "kubernetes" / "Dockerfile"):
        assert path.name in PAGE
