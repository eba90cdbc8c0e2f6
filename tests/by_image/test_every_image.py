"""What holds for the image of every tool."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.by_image.conftest import Image, TrackedContainer

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKER = str(REPOSITORY / "images" / "docker")
BUDGET_MB = {"aml_olive_optimizer": 2200}
DEFAULT_BUDGET_MB = 200
ARBITRARY_USER = "12345:54321"  # known to no /etc/passwd
USERS = [None, "0:0", ARBITRARY_USER]
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "cpp", "as", "ld", "make", "cmake", "ninja", "go", "rustc")
# Of the stages before the last; hosts' certificates and pip's settings and wheels are among it.
BUILD_LEFTOVERS = re.compile(
    r"^(handed-in|source|wheels|native-wheels|third-party|own|opt/backends)(/|$)|\.whl$|(^|/)pip\.conf$|^usr/local/share/ca-certificates/."
    r"|^var/lib/apt/lists/.|^var/cache/apt/archives/.*\.deb$|^(root|home/[^/]+)/\.(cache|[a-z]*_history|python_history)"
)


def dashed(tool: str) -> str:
    return tool.replace("_", "-")


def declared_version(tool: str) -> str:
    project = (REPOSITORY / "packages" / tool / "pyproject.toml").read_text()
    found = re.search(r'^version = "([^"]+)"', project, re.MULTILINE)
    assert found is not None
    return found[1]


def test_without_a_command_it_says_what_is_inside_and_how_to_call_it(container: TrackedContainer, tool: str) -> None:
    said = container.run()
    assert said.exit_code == 0, said.stderr
    assert said.stdout.startswith(f"{dashed(tool)} {declared_version(tool)}: ")
    assert f"IMAGE python -m {tool} FLAGS" in said.stdout
    assert re.search(r"^  --\w+_path FILE", said.stdout, re.MULTILINE), said.stdout
    assert f"aml-tool-core {declared_version('aml_tool_core')}" in said.stdout
    for program in container.run("sh", "-c", "echo $IMAGE_NATIVE_PROGRAMS").stdout.split():
        assert re.search(rf"\b{program} \S*\d+\.\d+", said.stdout), said.stdout


@pytest.mark.parametrize("user", USERS)
def test_module_and_script_are_the_same_tool(container: TrackedContainer, tool: str, user: str | None) -> None:
    for command in (["python", "-m", tool], [dashed(tool)]):
        said = container.run(*command, "--version", user=user)
        assert (said.exit_code, said.stdout) == (0, f"{tool} {declared_version(tool)}\n"), said.stderr


def test_bad_flags_end_by_the_tools_convention(container: TrackedContainer, tool: str) -> None:
    said = container.run("python", "-m", tool, "--no_such_flag")
    assert said.exit_code == 2
    assert re.fullmatch(rf"{tool}: error: .+\n", said.stderr)


def test_nobody_is_root_by_default(container: TrackedContainer) -> None:
    assert container.run("id", "-u").stdout == "1000\n"


@pytest.mark.parametrize("user", USERS)
def test_outputs_can_be_written_where_only_they_can(
    container: TrackedContainer, tool: str, work: Path, user: str | None
) -> None:
    said = container.run(
        "sh",
        "-c",
        f"python -m {tool} --version && echo written >outputs/file && ! touch /job/beside && ! touch /tmp/elsewhere",
        user=user,
        flags=["--read-only", "--volume", f"{work}:/job/outputs"],
    )
    assert said.exit_code == 0, said.stderr
    assert (work / "file").read_text() == "written\n"


@pytest.mark.parametrize("user", USERS)
def test_the_working_folder_can_be_written(container: TrackedContainer, user: str | None) -> None:
    said = container.run("sh", "-c", "pwd && mkdir outputs && touch outputs/file", user=user)
    assert (said.exit_code, said.stdout) == (0, "/job\n"), said.stderr


def test_it_ends_when_it_is_stopped(container: TrackedContainer, image: Image) -> None:
    assert image.description["Config"]["Entrypoint"] == ["/usr/bin/tini", "--"]
    name = container.start("sleep", "300")
    subprocess.run([DOCKER, "stop", "--time", "20", name], check=True, capture_output=True, timeout=60)
    ended = subprocess.run(
        [DOCKER, "inspect", "--format", "{{.State.ExitCode}}", name], check=True, capture_output=True, text=True
    )
    # 128 + SIGTERM; 137 would say that it had to be killed, as a process 1 without handlers must be.
    assert ended.stdout.strip() == "143"


def test_labels(image: Image, tool: str) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.labels.items()}
    assert labels["title"] == dashed(tool)
    assert labels["version"] == declared_version(tool)
    assert labels["licenses"] == "MIT"
    assert len(labels["description"]) > 20
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels["revision"])
    assert "source" in labels
    assert "@" not in labels["source"], "an address with credentials"


def test_packages_agree_and_are_those_of_the_locks(container: TrackedContainer, tool: str) -> None:
    checked = container.run("pip", "check")
    assert checked.exit_code == 0, checked.stdout
    program = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    installed = container.run("python", "-c", program)
    names = [_normal(line) for line in installed.stdout.splitlines()]
    twice = [name for name, count in Counter(line.partition("==")[0] for line in names).items() if count > 1]
    assert not twice, "installed in two layers"
    locked = _pins("base") | _pins(_family(tool)) | _pins(tool)
    own = {_normal(_own(path)) for path in [REPOSITORY / "schemas", *(REPOSITORY / "packages").iterdir()]}
    extra = {line for line in set(names) - locked - own if not line.startswith("torch==")}
    assert not extra, "in the image, not in its lock"
    assert locked <= set(names), "in the lock, not in the image"


def _family(tool: str) -> str:
    dockerfile = (REPOSITORY / "images" / tool / "Dockerfile").read_text()
    found = re.search(r"^ARG BASE_IMAGE=aml-model-optimizer-(\S+)$", dockerfile, re.MULTILINE)
    assert found is not None
    return found[1]


def _pins(folder: str) -> set[str]:
    lock = REPOSITORY / "images" / folder / "requirements.lock"
    text = lock.read_text() if lock.exists() else ""  # a tool may need nothing beyond its family
    return {_normal(pin) for pin in re.findall(r"^\S+==\S+", text, re.MULTILINE)}


def _own(folder: Path) -> str:
    project = folder / "pyproject.toml"
    found = dict(re.findall(r'^(name|version) = "([^"]+)"', project.read_text() if project.exists() else "", re.M))
    return f"{found.get('name')}=={found.get('version')}"


def _normal(pin: str) -> str:
    name, _, version = pin.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def test_no_compiler(container: TrackedContainer) -> None:
    looked = container.run("sh", "-c", f"for name in {' '.join(COMPILERS)}; do command -v $name; done; true")
    assert (looked.exit_code, looked.stdout) == (0, "")
    packages = container.run("dpkg-query", "--show", "--showformat", "${Package}\n").stdout.split()
    assert "tini" in packages
    assert not [name for name in packages if re.match(r"(gcc-\d+|g\+\+|binutils|cmake|.*-dev)(-\d+)?$", name)
                and not name.endswith("-base")]  # fmt: skip


def test_no_layer_holds_what_only_the_build_needed(image: Image) -> None:
    left, layers, certificates = [], 0, set()
    saved = subprocess.Popen([DOCKER, "save", image.name], stdout=subprocess.PIPE)
    assert saved.stdout is not None
    with tarfile.open(fileobj=saved.stdout, mode="r|") as archive:
        for member in archive:
            # Engines name a layer ID/layer.tar or, since 25, blobs/sha256/DIGEST, as they do its small JSON files.
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or not (member.name.endswith("/layer.tar") or member.name.startswith("blobs/sha256/")):
                continue
            try:
                layer = tarfile.open(fileobj=content, mode="r|*")  # noqa: SIM115  # as a context, it would hide what fails inside
            except tarfile.ReadError:
                assert member.size < 100_000, f"{member.name} is no layer, but large"
                continue
            layers += 1
            for file in layer:
                name = file.name.removeprefix("./")
                if BUILD_LEFTOVERS.search(name):
                    left.append(name)
                if name == "etc/ssl/certs/ca-certificates.crt" and file.isfile():
                    bundle = layer.extractfile(file)
                    assert bundle is not None
                    certificates |= _certificates(bundle.read().decode())
    assert saved.wait() == 0
    assert layers > 3
    assert not left
    assert certificates, "no layer has Debian's certificates"
    own = Path("/usr/local/share/ca-certificates").glob("*.crt")
    assert not [path for path in own if _certificates(path.read_text()) & certificates], "this machine's own authority"


def _certificates(bundle: str) -> set[str]:
    found = re.findall(r"-----BEGIN CERTIFICATE-----(.+?)-----END", bundle, re.DOTALL)
    return {"".join(body.split()) for body in found}


def test_the_history_tells_no_secret(image: Image) -> None:
    history = subprocess.run(
        [DOCKER, "history", "--no-trunc", "--format", "{{json .}}", image.name],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    told = history + json.dumps(image.description["Config"])
    assert "LABEL org.opencontainers.image.title" in told
    indexes = [os.environ.get(name, "") for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")]
    assert not [index for index in indexes if index and index in told]
    assert not re.search(r"(?i)handed-in|pip_(index|extra|cert|config)|password|secret|token|://[^/\s\"]+@", told)


def test_size(image: Image, tool: str, request: pytest.FixtureRequest) -> None:
    root = os.environ.get("ROOT_IMAGE", "debian:bookworm-slim")
    inspected = subprocess.run(
        [DOCKER, "image", "inspect", "--format", "{{.Size}}", root], check=True, capture_output=True, text=True
    )
    above_mb = (image.size_bytes - int(inspected.stdout)) / 1e6
    budget_mb = BUDGET_MB.get(tool, DEFAULT_BUDGET_MB)
    line = f"{image.name}: {above_mb:.0f} MB above {root}, of {budget_mb} MB"
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        terminal.write_line(f"\n{line}")
    assert above_mb <= budget_mb, line
